//! The numbers of an inspection for other programs: JSON, comma-separated values, NumPy's `.npz`.

use std::io::{self, Cursor, Write};

use serde_json::{Value, json};

use super::{Inspection, Looked};

/// Everything as one JSON object: tokens, then for each layer and channel a list for each token.
pub fn json(looked: &Looked) -> Value {
    let Looked { inspection, causes, effect, ablated, followed } = looked;
    let layers: Vec<Value> = inspection
        .layers
        .iter()
        .map(|layer| {
            let channels = layer.channels().map(|(name, values, width)| {
                let rows: Vec<&[f32]> = values.chunks_exact(width).collect();
                (name.to_owned(), json!(rows))
            });
            Value::Object(channels.into_iter().collect())
        })
        .collect();
    json!({
        "perplexity": inspection.loss().perplexity(),
        "tokens": inspection.read,
        "layers": layers,
        "causes": causes,
        "effect": effect,
        "ablated": ablated,
        "followed": followed,
    })
}

/// A line for each token, layer and unit.
///
/// # Errors
/// A reader that takes no more.
pub fn csv(inspection: &Inspection, out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, "place,token,nats,layer,unit,i,f,g,o,c,h")?;
    for (place, token) in inspection.read.iter().enumerate() {
        let text = token.text.replace('"', "\"\"");
        let nats = token.nats.map_or(String::new(), |nats| nats.to_string());
        for (number, layer) in inspection.layers.iter().enumerate() {
            // Of a projected layer h has fewer values than there are units.
            for unit in 0..layer.hidden.max(layer.recurrent) {
                write!(out, "{place},\"{text}\",{nats},{},{unit}", number + 1)?;
                for (_, values, width) in layer.channels() {
                    match (unit < width).then(|| values[place * width + unit]) {
                        Some(value) => write!(out, ",{value}")?,
                        None => write!(out, ",")?,
                    }
                }
                writeln!(out)?;
            }
        }
    }
    Ok(())
}

/// The bytes of an `.npz`: `ids`, `nats` (not a number where a token was given), and `layer1_i` and so on, `[tokens, units]`.
///
/// # Errors
/// None but those of writing to memory.
pub fn npz(inspection: &Inspection) -> io::Result<Vec<u8>> {
    let mut archive = zip::ZipWriter::new(Cursor::new(Vec::new()));
    let options = zip::write::SimpleFileOptions::default().compression_method(zip::CompressionMethod::Deflated);
    let mut put = |name: &str, kind: &str, shape: String, bytes: &[u8]| -> io::Result<()> {
        archive.start_file(format!("{name}.npy"), options).map_err(io::Error::other)?;
        // The header ends with a line feed at a multiple of 64 bytes.
        let mut header = format!("{{'descr': '{kind}', 'fortran_order': False, 'shape': {shape}, }}");
        let padding = (64 - (10 + header.len() + 1) % 64) % 64;
        header.push_str(&" ".repeat(padding));
        header.push('\n');
        archive.write_all(b"\x93NUMPY\x01\x00")?;
        archive.write_all(&(header.len() as u16).to_le_bytes())?;
        archive.write_all(header.as_bytes())?;
        archive.write_all(bytes)
    };
    let tokens = inspection.read.len();
    let floats = |values: &mut dyn Iterator<Item = f32>| values.flat_map(f32::to_le_bytes).collect::<Vec<u8>>();
    let ids: Vec<u8> = inspection.read.iter().flat_map(|token| token.id.to_le_bytes()).collect();
    put("ids", "<u4", format!("({tokens},)"), &ids)?;
    let nats = floats(&mut inspection.read.iter().map(|token| token.nats.unwrap_or(f32::NAN)));
    put("nats", "<f4", format!("({tokens},)"), &nats)?;
    for (number, layer) in inspection.layers.iter().enumerate() {
        for (name, values, width) in layer.channels() {
            let bytes = floats(&mut values.iter().copied());
            put(&format!("layer{}_{name}", number + 1), "<f4", format!("({tokens}, {width})"), &bytes)?;
        }
    }
    let finished = archive.finish().map_err(io::Error::other)?;
    Ok(finished.into_inner())
}
