"""HTTP to other servers: deadlines, abort, pools, addresses. Run by both processes."""
