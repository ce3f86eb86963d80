"""What a node, its link and a bucket can do, measured through the parts that a mount uses."""
