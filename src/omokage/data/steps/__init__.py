"""What is done to one picture: reading, finding the face, cutting, measuring, scaling."""
