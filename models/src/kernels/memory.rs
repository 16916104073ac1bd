//! How the C library's allocator treats large blocks.

/// Asks the allocator to keep freed memory for the next update. To be called once, before the first
/// tensor.
///
/// Tensors of several megabytes come and go with every update. As delivered, glibc maps and unmaps
/// each of them: fresh pages cost a quarter of an ensemble's update and a tenth of a Decision
/// Transformer's. Memory at its highest stays the same. Other allocators are left as they are.
pub fn keep_freed_blocks() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        /// Blocks below come from the heap, larger ones are mapped.
        const MAPPED_FROM: libc::c_int = 128 << 20;
        /// Free memory at the heap's end that is not given back.
        const KEPT: libc::c_int = 512 << 20;
        // SAFETY: calls into C, which take two numbers and are safe at any time.
        #[allow(unsafe_code)]
        unsafe {
            // Older versions take at most 32 MiB, and 0 says no. Setting the second alone would end
            // glibc's own adaptation of the first.
            let taken = [MAPPED_FROM, 32 << 20]
                .into_iter()
                .any(|bytes| libc::mallopt(libc::M_MMAP_THRESHOLD, bytes) == 1);
            if taken {
                libc::mallopt(libc::M_TRIM_THRESHOLD, KEPT);
            }
        }
    }
}
