//! Parameters: ordered, named tensors that networks are built from, that the optimiser updates in
//! place and that checkpoints store by name.
//!
//! A network is a struct of tensors made by a `build(config, &mut Scope)` function. The same
//! function creates the parameters (a [`Scope`] from [`Params::init`]), finds them again with
//! gradients ([`Params::tracked`]) or without ([`Params::detached`], which shares storage: updates
//! in place are seen).

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};

use candle_core::{DType, Device, Shape, Tensor, Var};

use crate::error::{Error, Result};
use crate::rng::Rng;
pub use crate::slot::Slot;

/// One named parameter.
#[derive(Debug, Clone)]
pub struct Param {
    /// Dotted name, e.g. `blocks.0.attn.key.weight`.
    pub name: String,
    /// Its numbers; updated in place.
    pub slot: Slot,
    /// Whether an optimiser may update it.
    pub trainable: bool,
}

/// Ordered, named parameters of one or several networks.
#[derive(Debug)]
pub struct Params {
    entries: Vec<Param>,
    index: HashMap<String, usize>,
    dtype: DType,
    device: Device,
}

impl Params {
    /// No parameters yet; those to come have this type and live on this device.
    pub fn new(dtype: DType, device: &Device) -> Self {
        Self {
            entries: Vec::new(),
            index: HashMap::new(),
            dtype,
            device: device.clone(),
        }
    }

    /// Type of every parameter.
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// Where every parameter lives.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// Freezes the parameters whose names `chosen` picks: they have no gradient in any network that finds them from
    /// now on, and no optimiser updates them.
    pub fn freeze(&mut self, chosen: impl Fn(&str) -> bool) {
        for param in self.entries.iter_mut().filter(|param| chosen(&param.name)) {
            param.trainable = false;
        }
    }

    /// The parameters, in order of creation.
    pub fn iter(&self) -> impl Iterator<Item = &Param> {
        self.entries.iter()
    }

    /// How many tensors.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// How many numbers in all tensors.
    pub fn elements(&self) -> usize {
        self.entries.iter().map(|p| p.slot.elem_count()).sum()
    }

    /// The parameter called `name`.
    pub fn get(&self, name: &str) -> Option<&Param> {
        self.index.get(name).map(|&i| &self.entries[i])
    }

    /// The parameter called `name`, if it has this shape.
    fn find(&self, name: &str, shape: &Shape) -> Result<&Param> {
        let param = self.get(name).ok_or_else(|| Error::MissingTensor {
            name: name.to_owned(),
            expected: shape.dims().to_vec(),
        })?;
        check_shape(name, param.slot.shape(), shape)?;
        Ok(param)
    }

    /// Moves the parameters from number `first` on into one variable, in their order.
    fn share(&mut self, first: usize) -> Result<()> {
        let parts = &mut self.entries[first..];
        let values = parts
            .iter()
            .map(|param| Ok(param.slot.tensor()?.flatten_all()?))
            .collect::<Result<Vec<_>>>()?;
        let var = Var::from_tensor(&Tensor::cat(&values, 0)?)?;
        let mut start = 0;
        for param in parts {
            let shape = param.slot.shape().clone();
            param.slot = Slot::part(&var, start, shape)?;
            start += param.slot.elem_count();
        }
        Ok(())
    }

    /// The variable that just these parameters share, in this order.
    fn shared(&self, numbers: &[usize]) -> Result<&Param> {
        let mut start = 0;
        for &number in numbers {
            let (param, first) = (&self.entries[number], &self.entries[numbers[0]]);
            let here =
                param.slot.var().id() == first.slot.var().id() && param.slot.start() == start;
            if !here || param.trainable != first.trainable {
                return Err(Error::Config {
                    what: "Params",
                    reason: format!(
                        "`{}` must share a variable with `{}`: parameters of one operation are made \
                         together, by the network's own constructor",
                        param.name, first.name
                    ),
                });
            }
            start += param.slot.elem_count();
        }
        match numbers.first().map(|&number| &self.entries[number]) {
            Some(first) if first.slot.var().elem_count() == start => Ok(first),
            _ => Err(Error::Config {
                what: "Params",
                reason: "a shared variable has parameters that nobody asked for".to_owned(),
            }),
        }
    }

    /// Adds a parameter with this value.
    ///
    /// # Errors
    /// If the name is taken.
    pub fn insert(&mut self, name: &str, value: &Tensor, trainable: bool) -> Result<&Param> {
        if self.index.contains_key(name) {
            return Err(Error::Config {
                what: "Params",
                reason: format!("two parameters are called `{name}`"),
            });
        }
        let value = value
            .to_dtype(self.dtype)?
            .to_device(&self.device)?
            .contiguous()?;
        let var = Var::from_tensor(&value.copy()?)?;
        self.index.insert(name.to_owned(), self.entries.len());
        self.entries.push(Param {
            name: name.to_owned(),
            slot: Slot::from(&var),
            trainable,
        });
        Ok(&self.entries[self.entries.len() - 1])
    }

    /// A scope that creates parameters, drawing initial values from `rng`.
    pub fn init<'a>(&'a mut self, rng: &'a mut Rng) -> Scope<'a> {
        Scope {
            mode: Mode::Create { params: self, rng },
            prefix: String::new(),
        }
    }

    /// A scope that finds parameters for training: gradients are tracked.
    pub fn tracked(&self) -> Scope<'_> {
        Scope {
            mode: Mode::Find {
                params: self,
                detached: false,
                seen: None,
            },
            prefix: String::new(),
        }
    }

    /// A scope that finds parameters for inference: the same storage, no gradients.
    pub fn detached(&self) -> Scope<'_> {
        Scope {
            mode: Mode::Find {
                params: self,
                detached: true,
                seen: None,
            },
            prefix: String::new(),
        }
    }

    /// An independent copy with the same names and values; frozen if not `trainable`, else what is
    /// trainable here is trainable there.
    pub fn deep_copy(&self, trainable: bool) -> Result<Self> {
        let mut copies = HashMap::new();
        let mut entries = Vec::with_capacity(self.entries.len());
        for param in &self.entries {
            let var = param.slot.var();
            let copy = match copies.get(&var.id()) {
                Some(copy) => Var::clone(copy),
                None => Var::from_tensor(&var.as_detached_tensor().copy()?)?,
            };
            copies.insert(var.id(), copy.clone());
            entries.push(Param {
                name: param.name.clone(),
                slot: Slot::part(&copy, param.slot.start(), param.slot.shape().clone())?,
                trainable: trainable && param.trainable,
            });
        }
        Ok(Self {
            entries,
            index: self.index.clone(),
            dtype: self.dtype,
            device: self.device.clone(),
        })
    }

    /// Sets every value from `tensors` (by name, converting type and device).
    ///
    /// # Errors
    /// If one is missing, has another shape, or is not a parameter; nothing is changed then.
    pub fn load(&self, tensors: &BTreeMap<String, Tensor>) -> Result<()> {
        for param in &self.entries {
            let found = tensors
                .get(&param.name)
                .ok_or_else(|| Error::MissingTensor {
                    name: param.name.clone(),
                    expected: param.slot.dims().to_vec(),
                })?;
            if found.dims() != param.slot.dims() {
                return Err(Error::TensorShape {
                    name: param.name.clone(),
                    found: found.dims().to_vec(),
                    expected: param.slot.dims().to_vec(),
                });
            }
        }
        let names: Vec<String> = tensors
            .keys()
            .filter(|name| !self.index.contains_key(*name))
            .cloned()
            .collect();
        if !names.is_empty() {
            return Err(Error::UnexpectedTensors { names });
        }
        for param in &self.entries {
            let value = tensors[&param.name]
                .to_dtype(self.dtype)?
                .to_device(&self.device)?;
            param.slot.set(&value)?;
        }
        Ok(())
    }

    /// Every value by name; the tensors share storage with the parameters.
    ///
    /// # Errors
    /// If the device fails.
    pub fn tensors(&self) -> Result<BTreeMap<String, Tensor>> {
        let named = |p: &Param| Ok((p.name.clone(), p.slot.tensor()?));
        self.entries.iter().map(named).collect()
    }

    /// Shows every parameter to `visitor` under `prefix`.
    ///
    /// # Errors
    /// What the visitor says.
    pub fn visit(&self, prefix: &str, visitor: &mut dyn StateVisitor) -> Result<()> {
        for param in &self.entries {
            visitor.tensor(&format!("{prefix}{}", param.name), &param.slot)?;
        }
        Ok(())
    }
}

/// Saves or restores state by name: one walk over the state does both, so they can't drift apart. One that looks at tensors
/// alone leaves the rest as it is; one that saves or restores says what becomes of everything.
pub trait StateVisitor {
    /// A tensor that is saved, or set in place when restoring.
    ///
    /// # Errors
    /// When restoring: missing, or of another shape.
    fn tensor(&mut self, name: &str, slot: &Slot) -> Result<()>;

    /// A number that is saved, or replaced when restoring.
    ///
    /// # Errors
    /// When restoring: missing.
    fn number(&mut self, name: &str, value: &mut f64) -> Result<()> {
        let _ = (name, value);
        Ok(())
    }

    /// A counter that is saved, or replaced when restoring.
    ///
    /// # Errors
    /// When restoring: missing.
    fn counter(&mut self, name: &str, value: &mut u64) -> Result<()> {
        let _ = (name, value);
        Ok(())
    }

    /// Bytes that are saved, or replaced when restoring: the one kind of state whose size the data decides.
    ///
    /// # Errors
    /// When restoring: missing, or no bytes.
    fn bytes(&mut self, name: &str, value: &mut Vec<u8>) -> Result<()> {
        let _ = (name, value);
        Ok(())
    }

    /// Whether something of this name is there to be restored: not in checkpoints of versions that did not save it yet. Always
    /// where state is saved.
    fn holds(&self, name: &str) -> bool {
        let _ = name;
        true
    }
}

/// Where parameters come from while a network is built, with a name prefix.
pub struct Scope<'a> {
    mode: Mode<'a>,
    prefix: String,
}

enum Mode<'a> {
    Create {
        params: &'a mut Params,
        rng: &'a mut Rng,
    },
    Find {
        params: &'a Params,
        detached: bool,
        /// Numbers of the parameters found, for [`Scope::shared`].
        seen: Option<&'a RefCell<Vec<usize>>>,
    },
}

impl Scope<'_> {
    /// The scope one level down: names get `name.` in front.
    pub fn sub(&mut self, name: impl std::fmt::Display) -> Scope<'_> {
        let prefix = format!("{}{name}.", self.prefix);
        let mode = match &mut self.mode {
            Mode::Create { params, rng } => Mode::Create { params, rng },
            Mode::Find {
                params,
                detached,
                seen,
            } => Mode::Find {
                params,
                detached: *detached,
                seen: *seen,
            },
        };
        Scope { mode, prefix }
    }

    /// Type of the parameters.
    pub fn dtype(&self) -> DType {
        self.params().dtype
    }

    /// Device of the parameters.
    pub fn device(&self) -> &Device {
        &self.params().device
    }

    fn params(&self) -> &Params {
        match &self.mode {
            Mode::Create { params, .. } => params,
            Mode::Find { params, .. } => params,
        }
    }

    /// What `build` makes of parameters of this scope, and these parameters, in the order of their
    /// creation, as the one vector that they lie in: a fused operation's argument, with one gradient.
    ///
    /// # Errors
    /// What `build` says, or if the parameters were not made by this function.
    pub fn shared<T>(
        &mut self,
        build: impl Fn(&mut Scope<'_>) -> Result<T>,
    ) -> Result<(T, Tensor)> {
        if let Mode::Create { params, rng } = &mut self.mode {
            let first = params.entries.len();
            build(&mut Scope {
                mode: Mode::Create { params, rng },
                prefix: self.prefix.clone(),
            })?;
            params.share(first)?;
        }
        let (params, detached) = match &self.mode {
            Mode::Create { params, .. } => (&**params, false),
            Mode::Find {
                params, detached, ..
            } => (*params, *detached),
        };
        let seen = RefCell::new(Vec::new());
        let built = build(&mut Scope {
            mode: Mode::Find {
                params,
                detached,
                seen: Some(&seen),
            },
            prefix: self.prefix.clone(),
        })?;
        let first = params.shared(&seen.into_inner())?;
        let var = first.slot.var();
        Ok(if detached || !first.trainable {
            (built, var.as_detached_tensor())
        } else {
            (built, var.as_tensor().clone())
        })
    }

    /// The parameter `name` of this scope: created with `init`, or found.
    ///
    /// `init` gets the stream of initial values, the type and the device, and returns a tensor of
    /// `shape`.
    ///
    /// # Errors
    /// If it exists already (creating), is missing, or has another shape.
    pub fn param(
        &mut self,
        name: &str,
        shape: impl Into<Shape>,
        init: impl FnOnce(&mut Rng, &Shape, DType, &Device) -> candle_core::Result<Tensor>,
    ) -> Result<Tensor> {
        let (name, shape) = (format!("{}{name}", self.prefix), shape.into());
        match &mut self.mode {
            Mode::Create { params, rng } => {
                let value = init(rng, &shape, params.dtype, &params.device)?;
                check_shape(&name, value.shape(), &shape)?;
                params.insert(&name, &value, true)?.slot.tracked()
            }
            Mode::Find {
                params,
                detached,
                seen,
            } => {
                let param = params.find(&name, &shape)?;
                if let Some(seen) = seen {
                    seen.borrow_mut().extend(params.index.get(&name));
                }
                if *detached || !param.trainable {
                    param.slot.tensor()
                } else {
                    param.slot.tracked()
                }
            }
        }
    }

    /// Like [`Self::param`], for a parameter that is never trained: it has no gradient in any mode.
    ///
    /// # Errors
    /// If it exists already (creating), is missing, or has another shape.
    pub fn frozen(
        &mut self,
        name: &str,
        shape: impl Into<Shape>,
        init: impl FnOnce(&mut Rng, &Shape, DType, &Device) -> candle_core::Result<Tensor>,
    ) -> Result<Tensor> {
        let (name, shape) = (format!("{}{name}", self.prefix), shape.into());
        match &mut self.mode {
            Mode::Create { params, rng } => {
                let value = init(rng, &shape, params.dtype, &params.device)?;
                check_shape(&name, value.shape(), &shape)?;
                params.insert(&name, &value, false)?.slot.tensor()
            }
            Mode::Find { params, .. } => params.find(&name, &shape)?.slot.tensor(),
        }
    }
}

fn check_shape(name: &str, found: &Shape, expected: &Shape) -> Result<()> {
    if found.dims() == expected.dims() {
        return Ok(());
    }
    Err(Error::TensorShape {
        name: name.to_owned(),
        found: found.dims().to_vec(),
        expected: expected.dims().to_vec(),
    })
}
