"""What runs inside the sandbox of `CodeCheck`. It imports only the standard library and this folder."""
