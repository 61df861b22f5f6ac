"""Folders that are either the old ones or the new ones, never a mixture; on disk or on the hub."""

from instructclf.storage.checksums import check_files, find_checksums
from instructclf.storage.folders import check_place, find_folder, replacing_folder
from instructclf.storage.hub import fetch_file, fetch_folder, is_repo_id, push_folder

__all__ = [
    "check_files",
    "check_place",
    "fetch_file",
    "fetch_folder",
    "find_checksums",
    "find_folder",
    "is_repo_id",
    "push_folder",
    "replacing_folder",
]
