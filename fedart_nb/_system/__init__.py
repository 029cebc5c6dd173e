"""What lies under everything: files, folders, settings of this machine, names and numbers as people type them."""
