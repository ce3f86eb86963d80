"""`lazyfs demo`: the whole story on one machine, with a real S3 server. Tests use the same server and link."""
