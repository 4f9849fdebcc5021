"""Several losses, methods or networks on the same data: plan, queue, report. No torch here; a caller gives the runner."""
