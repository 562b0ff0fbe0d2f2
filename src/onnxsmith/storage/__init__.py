"""Model files: indexed on the way in, streamed on the way out, replaced only when complete."""
