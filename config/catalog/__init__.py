"""Models, prices, plans and routes, as data. Run by both processes."""
