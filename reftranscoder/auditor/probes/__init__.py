"""The probe set, and cases in files and folders."""
