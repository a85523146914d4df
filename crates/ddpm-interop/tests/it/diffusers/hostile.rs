//! Files made to do harm: none makes loading panic, or take more memory than the file is long.

use std::fs;

use proptest::prelude::*;
use serde_json::json;

use super::{built, copy, edit, refusal};

const SAFETENSORS: &str = "diffusion_pytorch_model.safetensors";
const BIN: &str = "diffusion_pytorch_model.bin";

fn safetensors(header: &str, data: &[u8]) -> Vec<u8> {
    let length = (header.len() as u64).to_le_bytes();
    [&length[..], header.as_bytes(), data].concat()
}

#[test]
fn headers_that_lie_are_refused() {
    let tensor = |shape: &str, start: u64, end: u64| {
        format!("{{\"dtype\":\"F32\",\"shape\":{shape},\"data_offsets\":[{start},{end}]}}")
    };
    let one = tensor("[1]", 0, 4);
    let max = u64::MAX;
    for (bytes, words) in [
        (Vec::new(), "shorter"),
        (vec![0xff; 7], "shorter"),
        (vec![0xff; 64], "longer than the file"),
        (safetensors("", b""), "header"),
        (safetensors("[]", b""), "header"),
        (safetensors("{\"a\":1}", b""), "a: "),
        (
            safetensors(&format!("{{\"a\":{one}}}"), &[0; 3]),
            "not in the file",
        ),
        (
            safetensors(&format!("{{\"a\":{one}}}"), &[0; 5]),
            "after the last",
        ),
        (
            safetensors(&format!("{{\"a\":{}}}", tensor("[1]", 4, 0)), &[0; 4]),
            "not in the file",
        ),
        (
            safetensors(&format!("{{\"a\":{}}}", tensor("[2]", 0, 4)), &[0; 4]),
            "does not match its size",
        ),
        (
            safetensors(
                &format!("{{\"a\":{}}}", tensor("[1]", max - 3, max)),
                &[0; 4],
            ),
            "not in the file",
        ),
        (
            // 2³² · 2³² is 0 where products wrap.
            safetensors(
                &format!("{{\"a\":{}}}", tensor("[4294967296,4294967296]", 0, 0)),
                b"",
            ),
            "does not match its size",
        ),
        (
            safetensors(&format!("{{\"a\":{one},\"b\":{one}}}"), &[0; 4]),
            "does not begin where",
        ),
        (
            safetensors(&format!("{{\"a\":{}}}", tensor("[1]", 4, 8)), &[0; 8]),
            "does not begin where",
        ),
    ] {
        let folder = copy("flat");
        fs::write(folder.path().join(SAFETENSORS), &bytes).unwrap();
        let message = refusal(folder.path());
        assert!(message.contains(SAFETENSORS), "{message}");
        assert!(message.contains(words), "no {words:?} in {message}");
    }
}

/// A configuration may ask for any network; building it must wait for weights that are as many.
#[test]
fn a_configuration_larger_than_its_weights_costs_nothing() {
    for (key, value, words) in [
        ("layers_per_block", json!(1_000_000), "residual blocks"),
        (
            "block_out_channels",
            json!([1 << 20, 1 << 20]),
            "mis-shaped conv_in.weight",
        ),
        (
            "num_class_embeds",
            json!(1 << 20),
            "missing class_embedding.weight",
        ),
    ] {
        let folder = copy("flat");
        edit(&folder.path().join("config.json"), |config| {
            config.insert(key.to_owned(), value);
        });
        let message = refusal(folder.path());
        assert!(message.contains(words), "no {words:?} in {message}");
    }
}

/// A stored zip archive of these entries.
fn zip(entries: &[(&str, &[u8])]) -> Vec<u8> {
    let (mut bytes, mut directory) = (Vec::new(), Vec::new());
    for (name, data) in entries {
        let at = u32::try_from(bytes.len()).unwrap();
        let size = u32::try_from(data.len()).unwrap().to_le_bytes();
        let name_len = u16::try_from(name.len()).unwrap().to_le_bytes();
        bytes.extend(b"PK\x03\x04");
        bytes.extend([0; 14]);
        bytes.extend([size, size].concat());
        bytes.extend(name_len);
        bytes.extend([0; 2]);
        bytes.extend(name.as_bytes());
        bytes.extend(*data);
        directory.extend(b"PK\x01\x02");
        directory.extend([0; 16]);
        directory.extend([size, size].concat());
        directory.extend(name_len);
        directory.extend([0; 12]);
        directory.extend(at.to_le_bytes());
        directory.extend(name.as_bytes());
    }
    let count = u16::try_from(entries.len()).unwrap().to_le_bytes();
    let (start, size) = (bytes.len(), directory.len());
    bytes.extend(directory);
    bytes.extend(b"PK\x05\x06\0\0\0\0");
    bytes.extend([count, count].concat());
    bytes.extend(u32::try_from(size).unwrap().to_le_bytes());
    bytes.extend(u32::try_from(start).unwrap().to_le_bytes());
    bytes.extend([0; 2]);
    bytes
}

/// A pickle of one tensor `a` of one storage of 4 bytes, with this offset, shape and strides.
fn pickle(offset: u8, shape: &[u8], strides: &[u8]) -> Vec<u8> {
    let tuple = |sizes: &[u8]| -> Vec<u8> {
        let sizes = sizes.iter().flat_map(|&size| [b'K', size]);
        [vec![b'('], sizes.collect(), vec![b't']].concat()
    };
    [
        &b"\x80\x02}X\x01\0\0\0actorch._utils\n_rebuild_tensor_v2\n("[..],
        b"(X\x07\0\0\0storagectorch\nFloatStorage\nX\x01\0\0\x000X\x03\0\0\0cpuK\x01tQ",
        &[b'K', offset],
        &tuple(shape),
        &tuple(strides),
        b"\x89}tRs.",
    ]
    .concat()
}

#[test]
fn pickles_that_ask_for_more_are_refused() {
    let with = |pickle: &[u8]| zip(&[("x/data.pkl", pickle), ("x/data/0", &[0; 4])]);
    let nested = [&b"\x80\x02)"[..], &vec![0x85; 100_000], b"."].concat();
    for (bytes, words) in [
        // What the archive should be, but for the one tensor's name.
        (with(&pickle(0, &[1], &[1])), "unexpected a [1]"),
        (with(&pickle(1, &[1], &[1])), "outside its storage"),
        (with(&pickle(0, &[2], &[1])), "outside its storage"),
        // A thousand million numbers by going nowhere.
        (with(&pickle(0, &[100; 5], &[0; 5])), "outside its storage"),
        (
            with(&pickle(0, &[255; 9], &[255; 9])),
            "outside its storage",
        ),
        (with(&pickle(0, &[1], &[])), "outside its storage"),
        (
            with(b"cos\nsystem\n(X\x06\0\0\0rm -rftR."),
            "asks for os.system",
        ),
        (with(b"cbuiltins\neval\n)R."), "asks for builtins.eval"),
        (
            with(b"ctorch\nLongStorage\n."),
            "asks for torch.LongStorage",
        ),
        (with(b"\x80\x02}"), "ends too early"),
        (with(b"t."), "no mark"),
        (with(b"}(00ttu."), "opcode 0x30"),
        (with(b"(}}s"), "stack is empty"),
        (with(b"X\xff\xff\xff\x7f"), "ends too early"),
        (with(b"X\xff\xff\xff\xff"), "negative"),
        (with(b"J\xff\xff\xff\xff."), "negative"),
        (
            with(b"\x8a\x09\x01\x01\x01\x01\x01\x01\x01\x01\x01."),
            "larger than any size",
        ),
        (with(b"h\x05."), "not remembered"),
        (with(b")."), "not a dictionary"),
        (with(b"}N)s."), "not text"),
        (with(b"}X\x01\0\0\0aNs."), "a is not a tensor"),
        (with(&nested), "not a dictionary"),
        (with(b""), "ends too early"),
        (zip(&[("x/data", b"")]), "one data.pkl"),
        (
            zip(&[("x/data.pkl", b"."), ("y/data.pkl", b".")]),
            "one data.pkl",
        ),
        (
            zip(&[("x/data.pkl", b"."), ("x/data.pkl", b".")]),
            "two entries",
        ),
        (
            zip(&[("x/data.pkl", b"."), ("x/byteorder", b"big")]),
            "little-endian",
        ),
        (zip(&[("x/data.pkl", &pickle(0, &[1], &[1]))]), "no data/0"),
        (b"\x80\x02".to_vec(), "zip"),
        (Vec::new(), "zip"),
    ] {
        let folder = copy("pickled");
        fs::write(folder.path().join(BIN), &bytes).unwrap();
        // The network has more blocks than any of these has tensors.
        let message = match ddpm_interop::diffusers::unet(folder.path()) {
            Ok(_) if words.starts_with("unexpected") => continue,
            Ok(_) => panic!("accepted: {words}"),
            Err(error) => error.to_string(),
        };
        assert!(message.contains(BIN), "{message}");
        assert!(message.contains(words), "no {words:?} in {message}");
    }
}

/// Tensors that share one storage would each be copied.
#[test]
fn tensors_may_not_multiply_a_storage() {
    let one = pickle(0, &[1], &[1]);
    // The dictionary's body, again and again; its end once.
    let body = &one[3..one.len() - 1];
    let many = [&one[..3], &body.repeat(5), b"."].concat();
    let storage = vec![0; 4096];
    let big = |pickle: &[u8]| {
        let wide = pickle.to_vec();
        zip(&[("x/data.pkl", &wide), ("x/data/0", &storage)])
    };
    let folder = copy("pickled");
    fs::write(folder.path().join(BIN), big(&many)).unwrap();
    assert!(
        ddpm_interop::diffusers::unet(folder.path()).is_err(),
        "one name five times"
    );

    let wide = pickle(0, &[4, 255], &[255, 1]);
    let body: Vec<u8> = (b'a'..b'i')
        .flat_map(|name| {
            let mut body = wide[3..wide.len() - 1].to_vec();
            body[5] = name;
            body
        })
        .collect();
    let many = [&wide[..3], &body, b"."].concat();
    fs::write(folder.path().join(BIN), big(&many)).unwrap();
    let message = refusal(folder.path());
    assert!(message.contains("overlap"), "{message}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// One byte changed, or the file cut: loading answers, whatever it answers.
    #[test]
    fn no_byte_makes_loading_panic(
        kind in 0..3_usize,
        at in any::<prop::sample::Index>(),
        byte in any::<u8>(),
        cut in any::<bool>(),
    ) {
        let (fixture, file) = [
            ("flat", SAFETENSORS),
            ("pickled", BIN),
            ("sharded", "diffusion_pytorch_model.safetensors.index.json"),
        ][kind];
        let folder = copy(fixture);
        let path = folder.path().join(file);
        let mut bytes = fs::read(&path).unwrap();
        // Half of the changes where the structure is: at the beginning or the end.
        let place = at.index(bytes.len());
        let place = if byte % 2 == 0 { place } else { place.min(place % 20_000) };
        if cut {
            bytes.truncate(place);
        } else {
            bytes[place] = byte;
        }
        fs::write(&path, bytes).unwrap();
        let _ = built(folder.path());
    }
}
