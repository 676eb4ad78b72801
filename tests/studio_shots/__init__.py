"""Pictures of the studio's screens: `make studio-shots`."""
