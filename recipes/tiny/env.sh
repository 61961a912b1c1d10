# glibc gives freed memory back to the kernel after every step unless told otherwise: a sixth of a step's time.
export MALLOC_MMAP_THRESHOLD_=4000000000 MALLOC_TRIM_THRESHOLD_=16000000000 MALLOC_TOP_PAD_=500000000
