"""What was asked: admission, parameters shared by endpoints, retries. Run by the web process."""
