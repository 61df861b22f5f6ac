"""Files and folders that are either the old ones or the new ones, never a mixture."""

from instructclf.storage.checksums import check_files, find_checksums
from instructclf.storage.folders import find_folder, replacing_folder
from instructclf.storage.records import read_record, replacing_file, write_record

__all__ = [
    "check_files",
    "find_checksums",
    "find_folder",
    "read_record",
    "replacing_file",
    "replacing_folder",
    "write_record",
]
