"""From the bytes of pixel data to physical values."""
