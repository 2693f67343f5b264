"""Who does the work: this process, threads, processes, or a cluster. They know nothing of pictures."""
