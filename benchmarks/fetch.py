"""Downloads a prefix with boto3 and 16 threads, as init containers do.

`python -m benchmarks.fetch ENDPOINT BUCKET PREFIX DIR`
"""

import sys
from pathlib import Path

import boto3
from boto3.s3.transfer import TransferConfig, create_transfer_manager
from botocore.config import Config

THREADS = 16
PART_BYTES = 16 << 20


def fetch(endpoint: str, bucket: str, prefix: str, target: Path) -> None:
    """Download every object below `prefix`, parts of all of them at once."""
    client = boto3.client("s3", endpoint_url=endpoint, config=Config(max_pool_connections=THREADS))
    listed = client.list_objects_v2(Bucket=bucket, Prefix=prefix)["Contents"]
    target.mkdir(parents=True)
    config = TransferConfig(
        max_concurrency=THREADS, multipart_chunksize=PART_BYTES, multipart_threshold=PART_BYTES
    )
    with create_transfer_manager(client, config) as transfers:
        futures = [
            transfers.download(bucket, entry["Key"], str(target / entry["Key"].removeprefix(prefix)))
            for entry in listed
        ]
        for future in futures:
            future.result()


if __name__ == "__main__":
    url, name, below, place = sys.argv[1:]
    fetch(url, name, below, Path(place))
