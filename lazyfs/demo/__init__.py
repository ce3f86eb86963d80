"""`lazyfs demo`: the whole story on one machine, with a real S3 server that the tests use too."""
