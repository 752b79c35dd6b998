"""What is measured, a module for each part of the product; what they share stands beside."""
