"""Storage: sessions in Redis streams, images in a content-addressed blob store."""
