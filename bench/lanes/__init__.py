"""What order by lane costs where there is no work: see `__main__`."""
