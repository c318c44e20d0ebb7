"""Buckets (S3, GCS): objects into tables, each version of an object once.

Pipit lists a bucket and fetches what is new; the engine reads the file that lies on the disk, as it reads any file that
is loaded (`ingest/files/`). So an object's bytes are the same at each attempt, which the deduplication token of its
insert needs; only addresses that were judged are connected to; and the engine never sees a credential.
"""
