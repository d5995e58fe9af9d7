"""What is done to grey values and patches before a network sees them."""
