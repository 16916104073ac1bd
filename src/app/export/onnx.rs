//! Writes a [`Graph`] as an ONNX file: protocol buffers of `onnx.proto`, IR version 8, operator set 17.

use candle_core::{DType, Tensor};

use crate::app::export::graph::{Graph, Input, Node, Op};
use trajformer_core::error::Result;

const IR_VERSION: u64 = 8;
const OPERATOR_SET: u64 = 17;
/// `TensorProto.DataType`.
const FLOAT: u64 = 1;
const INT64: u64 = 7;
/// `AttributeProto.AttributeType`.
const ATTRIBUTE_FLOAT: u64 = 1;
const ATTRIBUTE_INT: u64 = 2;
const ATTRIBUTE_INTS: u64 = 7;

/// The file of a graph; `notes` are kept in its metadata.
///
/// # Errors
/// If the device fails.
pub fn encode(graph: &Graph, notes: &[(&str, String)]) -> Result<Vec<u8>> {
    let mut body = Message::default();
    for node in &graph.nodes {
        body.message(1, &encoded_node(node));
    }
    body.text(2, "policy");
    for (name, tensor) in &graph.constants {
        body.message(5, &encoded_tensor(name, tensor)?);
    }
    for input in &graph.inputs {
        body.message(11, &value_info(input));
    }
    let (name, dims) = graph.output.clone();
    body.text(10, &graph.meaning);
    let meaning = if graph.nodes.iter().any(|node| node.op == Op::ArgMax) {
        "Number of the choice that is taken, counted from 0."
    } else {
        "Actions in the environment's units, inside its bounds."
    };
    let output = Input {
        name,
        dims,
        dtype: DType::F32,
        meaning: meaning.to_owned(),
    };
    body.message(12, &value_info(&output));

    let mut set = Message::default();
    set.text(1, "");
    set.number(2, OPERATOR_SET);
    let mut model = Message::default();
    model.number(1, IR_VERSION);
    model.text(2, "trajformer");
    model.text(6, &graph.meaning);
    model.message(7, &body);
    model.message(8, &set);
    for (key, value) in notes {
        let mut entry = Message::default();
        entry.text(1, key);
        entry.text(2, value);
        model.message(14, &entry);
    }
    Ok(model.0)
}

fn encoded_node(node: &Node) -> Message {
    let mut message = Message::default();
    node.inputs.iter().for_each(|name| message.text(1, name));
    message.text(2, &node.output);
    message.text(3, &node.output);
    message.text(4, node.op.name());
    let mut attribute = Message::default();
    match &node.op {
        Op::LayerNormalization(epsilon) => {
            attribute.text(1, "epsilon");
            attribute.float(2, *epsilon);
            attribute.number(20, ATTRIBUTE_FLOAT);
        }
        Op::Gather(axis) | Op::Concat(axis) => {
            attribute.text(1, "axis");
            attribute.number(3, *axis as u64);
            attribute.number(20, ATTRIBUTE_INT);
        }
        Op::ArgMax => {
            attribute.text(1, "axis");
            attribute.number(3, -1i64 as u64);
            attribute.number(20, ATTRIBUTE_INT);
        }
        Op::Cast(dtype) => {
            attribute.text(1, "to");
            attribute.number(3, if *dtype == DType::I64 { INT64 } else { FLOAT });
            attribute.number(20, ATTRIBUTE_INT);
        }
        Op::Transpose(order) => {
            attribute.text(1, "perm");
            order
                .iter()
                .for_each(|&dim| attribute.number(8, dim as u64));
            attribute.number(20, ATTRIBUTE_INTS);
        }
        _ => return message,
    }
    message.message(5, &attribute);
    message
}

fn encoded_tensor(name: &str, tensor: &Tensor) -> Result<Message> {
    let mut message = Message::default();
    tensor
        .dims()
        .iter()
        .for_each(|&dim| message.number(1, dim as u64));
    let flat = tensor.flatten_all()?;
    let (kind, bytes): (u64, Vec<u8>) = match tensor.dtype() {
        DType::I64 => {
            let numbers = flat.to_vec1::<i64>()?;
            (
                INT64,
                numbers.iter().flat_map(|n| n.to_le_bytes()).collect(),
            )
        }
        _ => {
            let numbers = flat.to_vec1::<f32>()?;
            (
                FLOAT,
                numbers.iter().flat_map(|n| n.to_le_bytes()).collect(),
            )
        }
    };
    message.number(2, kind);
    message.text(8, name);
    message.bytes(9, &bytes);
    Ok(message)
}

/// Name, type, shape and meaning; the first dimension is `batch`.
fn value_info(input: &Input) -> Message {
    let mut shape = Message::default();
    let mut batch = Message::default();
    batch.text(2, "batch");
    shape.message(1, &batch);
    for &size in &input.dims {
        let mut dim = Message::default();
        dim.number(1, size as u64);
        shape.message(1, &dim);
    }
    let mut tensor = Message::default();
    tensor.number(
        1,
        if input.dtype == DType::I64 {
            INT64
        } else {
            FLOAT
        },
    );
    tensor.message(2, &shape);
    let mut kind = Message::default();
    kind.message(1, &tensor);
    let mut message = Message::default();
    message.text(1, &input.name);
    message.message(2, &kind);
    message.text(3, &input.meaning);
    message
}

/// A protocol buffer that grows: field numbers with their values.
#[derive(Debug, Default)]
struct Message(Vec<u8>);

impl Message {
    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }

    fn number(&mut self, field: u64, value: u64) {
        self.varint(field << 3);
        self.varint(value);
    }

    fn float(&mut self, field: u64, value: f32) {
        self.varint(field << 3 | 5);
        self.0.extend(value.to_le_bytes());
    }

    fn bytes(&mut self, field: u64, value: &[u8]) {
        self.varint(field << 3 | 2);
        self.varint(value.len() as u64);
        self.0.extend(value);
    }

    fn text(&mut self, field: u64, value: &str) {
        self.bytes(field, value.as_bytes());
    }

    fn message(&mut self, field: u64, value: &Self) {
        self.bytes(field, &value.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_written_as_protocol_buffers_say() {
        let mut inner = Message::default();
        inner.number(1, 150);
        inner.float(2, 1.0);
        let mut outer = Message::default();
        outer.message(3, &inner);
        outer.text(4, "ab");
        let expected = [26, 8, 8, 0x96, 1, 21, 0, 0, 0x80, 0x3F, 34, 2, b'a', b'b'];
        assert_eq!(outer.0, expected);
    }
}
