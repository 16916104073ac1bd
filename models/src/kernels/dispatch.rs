//! Compiles a function several times, for wider and wider vector units, and picks one at run time.

/// How wide the vector unit is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    /// What the target promises (SSE2 on x86-64).
    Baseline,
    /// AVX2 and fused multiply-add.
    Avx2,
    /// AVX-512.
    Avx512,
}

/// The level of this processor.
#[cfg(target_arch = "x86_64")]
pub fn level() -> Level {
    if is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512dq")
        && is_x86_feature_detected!("avx512vl")
        && is_x86_feature_detected!("fma")
    {
        Level::Avx512
    } else if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
        Level::Avx2
    } else {
        Level::Baseline
    }
}

/// The level of this processor.
#[cfg(not(target_arch = "x86_64"))]
pub fn level() -> Level {
    Level::Baseline
}

/// Defines functions of slices whose loops the compiler may vectorise for the processor at hand.
macro_rules! vectorized {
    ($($(#[$meta:meta])* $visibility:vis fn $name:ident$(<$t:ident: Real>)?(
        $($argument:ident: $type:ty),* $(,)?
    ) $(-> $result:ty)? $body:block)*) => {$(
        $(#[$meta])*
        #[allow(clippy::too_many_arguments)]
        $visibility fn $name$(<$t: Real>)?($($argument: $type),*) $(-> $result)? {
            #[inline(always)]
            #[allow(clippy::too_many_arguments)]
            fn body$(<$t: Real>)?($($argument: $type),*) $(-> $result)? $body

            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx2,fma")]
                #[allow(clippy::too_many_arguments)]
                fn avx2$(<$t: Real>)?($($argument: $type),*) $(-> $result)? {
                    body($($argument),*)
                }

                #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
                #[allow(clippy::too_many_arguments)]
                fn avx512$(<$t: Real>)?($($argument: $type),*) $(-> $result)? {
                    body($($argument),*)
                }

                match $crate::kernels::dispatch::level() {
                    #[allow(unsafe_code)]
                    $crate::kernels::dispatch::Level::Avx512 => {
                        // SAFETY: the processor has the features, as just found out.
                        return unsafe { avx512($($argument),*) };
                    }
                    #[allow(unsafe_code)]
                    $crate::kernels::dispatch::Level::Avx2 => {
                        // SAFETY: as above.
                        return unsafe { avx2($($argument),*) };
                    }
                    $crate::kernels::dispatch::Level::Baseline => {}
                }
            }
            body($($argument),*)
        }
    )*};
}
pub(crate) use vectorized;
