-- ->    Redis' time in milliseconds since 1970
return string.format('%.0f', now_ms())
