"""Folders on disk that are either the old ones or the new ones, never a mixture."""

from instructclf.storage.checksums import check_files, find_checksums
from instructclf.storage.folders import find_folder, replacing_folder

__all__ = ["check_files", "find_checksums", "find_folder", "replacing_folder"]
