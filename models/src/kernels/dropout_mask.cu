// The masks of models/src/dropout.rs, number for number: mix64, DropoutMask::row, RowMask::keeps.

__device__ unsigned long long mix64(unsigned long long x) {
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ULL;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebULL;
    return x ^ (x >> 31);
}

__device__ bool keeps(unsigned long long key, unsigned int threshold, unsigned long long row,
                      unsigned int column) {
    unsigned long long seed = mix64(key + row * 0x9e3779b97f4a7c15ULL);
    unsigned int x = column * 0x9e3779b9U ^ (unsigned int)seed;
    x ^= x >> 16;
    x = x * 0x7feb352dU + (unsigned int)(seed >> 32);
    x ^= x >> 15;
    x *= 0x846ca68bU;
    x ^= x >> 16;
    return x >= threshold;
}

extern "C" __global__ void dropout_mask(float *out, unsigned long long count,
                                        unsigned long long columns, unsigned long long key,
                                        unsigned int threshold, float scale) {
    unsigned long long i = blockIdx.x * (unsigned long long)blockDim.x + threadIdx.x;
    if (i < count) {
        out[i] = keeps(key, threshold, i / columns, (unsigned int)(i % columns)) ? scale : 0.0f;
    }
}
