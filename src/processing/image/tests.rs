//! Image files become the tensor values that model.json declares, and wrong files are refused.

use std::io::Cursor;

use ::image::{DynamicImage, ImageFormat};

use super::*;
use crate::memory::{Budget, Share};
use crate::model::{Dim, Manifest};

fn decoder(image: &str, shape: [usize; 4]) -> Result<ImageDecoder, String> {
    let manifest = Manifest::parse(&format!(r#"{{"inputs":[{{"name":"x","image":{image}}}]}}"#)).unwrap();
    let shape = shape.map(Dim::Fixed).to_vec();
    let input = TensorMetadata {
        name: "x".into(),
        datatype: Datatype::Fp32,
        shape,
        accepts: MEDIA_TYPES,
        filled_by: None,
    };
    ImageDecoder::new(
        manifest.inputs[0].image.as_ref().unwrap(),
        &input,
        &Limits { max_image_pixels: 1_000_000, ..Limits::default() },
    )
}

fn png(image: impl Into<DynamicImage>) -> Vec<u8> {
    let mut file = Cursor::new(Vec::new());
    image.into().write_to(&mut file, ImageFormat::Png).unwrap();
    file.into_inner()
}

fn decode(decoder: &ImageDecoder, file: &[u8]) -> Result<Vec<f32>, RequestError> {
    let mut memory = Share::none(&Budget::unbounded());
    let mut allowance = Allowance { memory: &mut memory, is_due: &|| Ok(()) };
    let (Elements::Fp32(values), _) = decoder.decode(&[file.to_vec()], &mut allowance)? else { panic!() };
    Ok(values)
}

fn two_pixels() -> Vec<u8> {
    png(::image::RgbImage::from_raw(2, 1, vec![10, 20, 30, 40, 50, 60]).unwrap())
}

#[test]
fn layout_and_colour_order_are_as_declared() {
    let nchw = decoder(r#"{"color":"rgb"}"#, [1, 3, 1, 2]).unwrap();
    assert_eq!(decode(&nchw, &two_pixels()).unwrap(), [10.0, 40.0, 20.0, 50.0, 30.0, 60.0]);
    let nhwc = decoder(r#"{"color":"bgr","layout":"NHWC"}"#, [1, 1, 2, 3]).unwrap();
    assert_eq!(decode(&nhwc, &two_pixels()).unwrap(), [30.0, 20.0, 10.0, 60.0, 50.0, 40.0]);
    let gray = decoder(r#"{"color":"gray"}"#, [1, 1, 1, 2]).unwrap();
    assert_eq!(decode(&gray, &two_pixels()).unwrap(), [18.0, 48.0]);
}

#[test]
fn values_are_scaled_then_centred_then_divided_by_channel() {
    let spec = r#"{"color":"rgb","scale":0.5,"mean":[1,2,3],"std":[2,4,8]}"#;
    let decoder = decoder(spec, [1, 3, 1, 2]).unwrap();
    assert_eq!(decode(&decoder, &two_pixels()).unwrap(), [2.0, 9.5, 2.0, 5.75, 1.5, 3.375]);
}

#[test]
fn contain_pads_and_cover_crops() {
    let file = png(::image::GrayImage::from_raw(2, 1, vec![100, 200]).unwrap());
    let contain = decoder(r#"{"color":"gray","resize":"contain","background":7}"#, [1, 1, 4, 2]).unwrap();
    assert_eq!(decode(&contain, &file).unwrap(), [7.0, 7.0, 100.0, 200.0, 7.0, 7.0, 7.0, 7.0]);
    let edge = decoder(r#"{"color":"gray","resize":"contain","background":"edge"}"#, [1, 1, 2, 2]).unwrap();
    assert_eq!(decode(&edge, &file).unwrap(), [100.0, 200.0, 150.0, 150.0]);
    let file = png(::image::GrayImage::from_raw(4, 2, vec![1, 9, 9, 1, 1, 9, 9, 1]).unwrap());
    let cover = decoder(r#"{"color":"gray","resize":"cover","filter":"nearest"}"#, [1, 1, 1, 1]).unwrap();
    assert_eq!(decode(&cover, &file).unwrap(), [9.0]);
}

#[test]
fn an_image_lies_at_the_left_upper_corner_when_asked_for() {
    let file = png(::image::GrayImage::from_raw(2, 1, vec![100, 200]).unwrap());
    let spec = r#"{"color":"gray","resize":"contain","placement":"top_left","background":7}"#;
    assert_eq!(decode(&decoder(spec, [1, 1, 2, 2]).unwrap(), &file).unwrap(), [100.0, 200.0, 7.0, 7.0]);
    let spec = r#"{"inputs":[{"name":"x","image":{"placement":"top_left"}}]}"#;
    assert!(Manifest::parse(spec).unwrap_err().contains("only with `\"resize\": \"contain\"`"));
}

#[test]
fn without_antialias_a_smaller_image_has_the_levels_that_opencv_gives() {
    let file = png(::image::GrayImage::from_raw(8, 1, vec![0, 0, 0, 80, 160, 0, 0, 200]).unwrap());
    let levels = |antialias: bool| {
        let spec = format!(r#"{{"color":"gray","antialias":{antialias}}}"#);
        decode(&decoder(&spec, [1, 1, 1, 2]).unwrap(), &file).unwrap()
    };
    // Each new pixel is the mean of the two pixels at its middle, and of no other.
    assert_eq!(levels(false), [0.0, 0.0]);
    assert!(levels(true).iter().all(|level| *level > 5.0), "{:?}", levels(true));
}

#[test]
fn decoding_returns_the_placement_of_each_image() {
    let file = png(::image::GrayImage::new(40, 20));
    let placement = |spec: &str| {
        let decoder = decoder(spec, [1, 1, 20, 10]).unwrap();
        let mut memory = Share::none(&Budget::unbounded());
        let mut allowance = Allowance { memory: &mut memory, is_due: &|| Ok(()) };
        decoder.decode(std::slice::from_ref(&file), &mut allowance).unwrap().1[0]
    };
    let orientation = Orientation::NoTransforms;
    let expected = |scale, offset| Placement { size: (40, 20), orientation, scale, offset };
    assert_eq!(placement(r#"{"color":"gray"}"#), expected((0.25, 1.0), (0.0, 0.0)));
    // The image becomes 10 × 5 pixels, with 7 empty rows above and 8 below.
    let contain = placement(r#"{"color":"gray","resize":"contain"}"#);
    assert_eq!(contain, expected((0.25, 0.25), (0.0, 7.0)));
    let corner = placement(r#"{"color":"gray","resize":"contain","placement":"top_left"}"#);
    assert_eq!(corner, expected((0.25, 0.25), (0.0, 0.0)));
    // The image becomes 40 × 20 pixels, and only the 10 columns in the middle are kept.
    let cover = placement(r#"{"color":"gray","resize":"cover"}"#);
    assert_eq!(cover, expected((1.0, 1.0), (-15.0, 0.0)));
}

#[test]
fn a_transparent_background_is_white_for_a_dark_image_and_black_for_a_light_one() {
    for (stroke, sheet) in [(0, 255.0), (255, 0.0)] {
        let file =
            png(::image::RgbaImage::from_raw(2, 1, vec![stroke, stroke, stroke, 255, 0, 0, 0, 0]).unwrap());
        let decoder = decoder(r#"{"color":"gray","background":"edge"}"#, [1, 1, 1, 2]).unwrap();
        assert_eq!(decode(&decoder, &file).unwrap(), [f32::from(stroke), sheet]);
    }
}

#[test]
fn exif_orientation_is_honoured() {
    let image = ::image::RgbImage::from_fn(16, 8, |x, _| ::image::Rgb([if x < 8 { 0 } else { 255 }; 3]));
    let mut jpeg = Cursor::new(Vec::new());
    DynamicImage::from(image).write_to(&mut jpeg, ImageFormat::Jpeg).unwrap();
    // EXIF with one IFD entry, orientation 6 (turn 90° clockwise). It is put after the first marker of the JPEG.
    let tiff = b"II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0";
    let mut file = jpeg.into_inner();
    let mut segment = vec![0xff, 0xe1, 0, (tiff.len() + 8) as u8];
    segment.extend_from_slice(b"Exif\0\0");
    segment.extend_from_slice(tiff);
    file.splice(2..2, segment);
    let decoder = decoder(r#"{"color":"gray"}"#, [1, 1, 16, 8]).unwrap();
    let values = decode(&decoder, &file).unwrap();
    assert!(values[0] < 32.0 && values[16 * 8 - 1] > 223.0, "{} {}", values[0], values[16 * 8 - 1]);
}

#[test]
fn a_header_with_an_impossible_size_is_refused_before_decoding() {
    let decoder = decoder(r#"{"color":"gray"}"#, [1, 1, 1, 2]).unwrap();
    let mut file = png(::image::GrayImage::new(2, 1));
    // In IHDR, the width is at byte 16, the height at byte 20, and the chunk's CRC at byte 29.
    for (width, height, code, part) in [
        (50_000u32, 50_000u32, Code::TooLarge, "50000×50000 are 2500000000 pixels"),
        (1000, 1000, Code::InvalidRequest, "cannot hold"),
    ] {
        file[16..20].copy_from_slice(&width.to_be_bytes());
        file[20..24].copy_from_slice(&height.to_be_bytes());
        let crc = crc32(&file[12..29]);
        file[29..33].copy_from_slice(&crc.to_be_bytes());
        let error = decode(&decoder, &file).unwrap_err();
        assert_eq!(error.code, code, "{error}");
        assert!(error.message.contains(part), "{error}");
    }
    for (file, part) in [
        (&b"GIF89a not ours"[..], "neither a JPEG nor a PNG"),
        (&two_pixels()[..40], "not a readable PNG file"),
    ] {
        let error = decode(&decoder, file).unwrap_err();
        assert!(error.message.contains(part), "{error}");
    }
}

#[test]
fn an_image_that_can_never_fit_in_memory_is_too_large_and_not_retried() {
    let decoder = decoder(r#"{"color":"gray"}"#, [1, 1, 1, 2]).unwrap();
    let mut memory = Share::none(&Budget::new((1 << 20) + 1000));
    memory.grow(2000).unwrap();
    let mut allowance = Allowance { memory: &mut memory, is_due: &|| Ok(()) };
    let error = decoder.decode(&[two_pixels()], &mut allowance).unwrap_err();
    assert_eq!(error.code, Code::TooLarge, "{error}");
}

#[test]
fn a_declaration_that_does_not_fit_the_input_is_refused_at_load() {
    let error = decoder(r#"{"color":"rgb"}"#, [1, 1, 4, 4]).unwrap_err();
    assert!(error.contains("3 channel(s)"), "{error}");
}

/// Computes the CRC-32 of PNG (ISO 3309), bit by bit.
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0u32, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| (crc >> 1) ^ (0xedb8_8320 & (crc & 1).wrapping_neg()))
    })
}
