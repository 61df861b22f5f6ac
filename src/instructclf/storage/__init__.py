"""Files and folders on disk and on the hub, replaced as a whole, and fingerprints of values."""

from instructclf.storage.checksums import check_files, find_checksums
from instructclf.storage.conversions import find_conversion, remove_conversion
from instructclf.storage.files import replacing_file
from instructclf.storage.folders import check_replaceable, find_folder, replacing_folder
from instructclf.storage.hub import (
    cache_folder,
    fetch_file,
    fetch_folder,
    has_file,
    is_cached,
    is_repo_id,
    push_folder,
)
from instructclf.storage.identity import fingerprint
from instructclf.storage.records import read_record, write_record

__all__ = [
    "cache_folder",
    "check_files",
    "check_replaceable",
    "fetch_file",
    "fetch_folder",
    "find_checksums",
    "find_conversion",
    "find_folder",
    "fingerprint",
    "has_file",
    "is_cached",
    "is_repo_id",
    "push_folder",
    "read_record",
    "remove_conversion",
    "replacing_file",
    "replacing_folder",
    "write_record",
]
