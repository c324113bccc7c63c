"""Records: wire format, streams, indices, converted files and their writers."""
