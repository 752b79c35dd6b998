"""What machines are made from: images in a cache that all labs share."""
