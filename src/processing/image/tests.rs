//! Image files become the tensor values that model.json declares, and wrong files are refused.

use std::io::Cursor;

use ::image::{DynamicImage, ImageFormat};

use super::*;
use crate::memory::{Budget, Share};
use crate::model::{Dim, Manifest};

fn decoder(image: &str, shape: [usize; 4]) -> Result<ImageDecoder, String> {
    listed(image, shape.map(Dim::Fixed), &[])
}

/// A decoder for an input of this shape, with these entries of `shapes`.
fn listed(image: &str, shape: [Dim; 4], shapes: &[[Dim; 4]]) -> Result<ImageDecoder, String> {
    let manifest = Manifest::parse(&format!(r#"{{"inputs":[{{"name":"x","image":{image}}}]}}"#)).unwrap();
    let input = |shape: &[Dim; 4]| TensorMetadata {
        name: "x".into(),
        datatype: Datatype::Fp32,
        shape: shape.to_vec(),
        accepts: MEDIA_TYPES,
        filled_by: None,
    };
    ImageDecoder::new(
        manifest.inputs[0].image.as_ref().unwrap(),
        &input(&shape),
        &shapes.iter().map(input).collect::<Vec<_>>(),
        &Limits { max_image_pixels: 1_000_000, ..Limits::default() },
    )
}

/// A gray input whose height and width are open.
fn open() -> [Dim; 4] {
    [Dim::Fixed(1), Dim::Fixed(1), Dim::Open(None), Dim::Open(None)]
}

fn png(image: impl Into<DynamicImage>) -> Vec<u8> {
    let mut file = Cursor::new(Vec::new());
    image.into().write_to(&mut file, ImageFormat::Png).unwrap();
    file.into_inner()
}

fn decode(decoder: &ImageDecoder, file: &[u8]) -> Result<Vec<f32>, RequestError> {
    let Elements::Fp32(values) = tensor(decoder, &[file.to_vec()])?.into_elements() else { panic!() };
    Ok(values)
}

fn tensor(decoder: &ImageDecoder, files: &[Vec<u8>]) -> Result<Tensor, RequestError> {
    let mut memory = Share::none(&Budget::unbounded());
    let mut allowance = Allowance { memory: &mut memory, is_due: &|| Ok(()) };
    Ok(decoder.decode(files, &mut allowance)?.0)
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
    let expected = |scale, offset| Placement { size: (40, 20), orientation, scale, offset, tensor: (10, 20) };
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

/// A JPEG file with an EXIF orientation. EXIF has one IFD entry, and is put after the first marker.
fn turned_jpeg(image: impl Into<DynamicImage>, orientation: u8) -> Vec<u8> {
    let mut jpeg = Cursor::new(Vec::new());
    image.into().write_to(&mut jpeg, ImageFormat::Jpeg).unwrap();
    let tiff = [&b"II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0"[..], &[orientation], &[0; 7]].concat();
    let mut file = jpeg.into_inner();
    let mut segment = vec![0xff, 0xe1, 0, (tiff.len() + 8) as u8];
    segment.extend_from_slice(b"Exif\0\0");
    segment.extend_from_slice(&tiff);
    file.splice(2..2, segment);
    file
}

#[test]
fn exif_orientation_is_honoured() {
    let image = ::image::RgbImage::from_fn(16, 8, |x, _| ::image::Rgb([if x < 8 { 0 } else { 255 }; 3]));
    // Orientation 6 turns it 90° clockwise.
    let file = turned_jpeg(image, 6);
    let decoder = decoder(r#"{"color":"gray"}"#, [1, 1, 16, 8]).unwrap();
    let values = decode(&decoder, &file).unwrap();
    assert!(values[0] < 32.0 && values[16 * 8 - 1] > 223.0, "{} {}", values[0], values[16 * 8 - 1]);
}

#[test]
fn a_crop_is_the_middle_of_the_whole_resized_image_for_every_orientation() {
    let image = ::image::GrayImage::from_fn(40, 30, |x, y| ::image::Luma([(x * x * 7 + y * 31) as u8]));
    for orientation in 1..=8 {
        let file = turned_jpeg(image.clone(), orientation);
        for (size, filter) in [
            (20, "bilinear"),
            (20, "bicubic"),
            (30, "nearest"),
            (44, r#"bilinear","antialias":false,"layout":"NCHW"#),
        ] {
            let spec = |more: &str| {
                format!(r#"{{"color":"gray","resize":"shorter","size":{size},"filter":"{filter}"{more}}}"#)
            };
            let whole =
                tensor(&listed(&spec(""), open(), &[]).unwrap(), std::slice::from_ref(&file)).unwrap();
            let crop = decode(&decoder(&spec(r#","crop":15"#), [1, 1, 15, 15]).unwrap(), &file).unwrap();
            let [_, _, height, width] = *whole.shape() else { panic!("{:?}", whole.shape()) };
            let shorter = if orientation < 5 { height } else { width };
            assert_eq!((shorter, height.max(width)), (size, size * 4 / 3), "{orientation}");
            let begin = |side: usize| ((side - 15) as f64 / 2.0).round_ties_even() as usize;
            let Elements::Fp32(values) = whole.elements() else { panic!() };
            for (line, ours) in crop.chunks(15).enumerate() {
                let at = (begin(height) + line) * width + begin(width);
                assert_eq!(
                    ours,
                    &values[at..at + 15],
                    "line {line}, orientation {orientation}, {size} {filter}"
                );
            }
        }
    }
}

#[test]
fn the_part_that_is_resized_lies_within_the_image_for_every_size() {
    let spec = |image: &str| {
        let manifest = Manifest::parse(&format!(r#"{{"inputs":[{{"name":"x","image":{image}}}]}}"#)).unwrap();
        manifest.inputs[0].image.clone().unwrap()
    };
    let cover = (spec(r#"{"resize":"cover"}"#), (96, 64));
    let crop = (spec(r#"{"resize":"shorter","size":256,"crop":224}"#), (224, 224));
    let orientations = [Orientation::NoTransforms, Orientation::Rotate180, Orientation::Rotate90];
    for (spec, sheet) in [cover, crop] {
        for size in (1..300).flat_map(|width| (1..300).map(move |height| (width, height))) {
            let fit = Fit::new(&spec, &[sheet], size).unwrap();
            for orientation in orientations {
                let [left, top, width, height] = stored_part(&fit, size, orientation);
                let (across, down) = turned(size, orientation);
                assert!(left >= 0.0 && left + width <= f64::from(across), "{size:?} {orientation:?}");
                assert!(top >= 0.0 && top + height <= f64::from(down), "{size:?} {orientation:?}");
            }
        }
    }
}

#[test]
fn a_tensor_follows_its_image_or_is_the_listed_size_that_holds_it() {
    let file = |width, height| png(::image::GrayImage::from_pixel(width, height, ::image::Luma([9])));
    let spec = r#"{"color":"gray","resize":"limit","longest":8,"multiple":4,"background":1}"#;
    let free = listed(spec, open(), &[]).unwrap();
    for ((width, height), shape) in
        [((8, 4), [1, 1, 4, 8]), ((3, 7), [1, 1, 8, 4]), ((16, 20), [1, 1, 8, 8]), ((1, 1), [1, 1, 4, 4])]
    {
        let made = tensor(&free, &[file(width, height)]).unwrap();
        assert_eq!(made.shape(), shape);
        assert_eq!(
            made.elements(),
            &Elements::Fp32(vec![9.0; made.elements().len()]),
            "nothing but the image"
        );
    }
    let shapes = [[1, 1, 4, 8], [1, 1, 8, 8]].map(|shape| shape.map(Dim::Fixed));
    let bound = listed(spec, open(), &shapes).unwrap();
    assert_eq!(tensor(&bound, &[file(8, 4)]).unwrap().shape(), [1, 1, 4, 8]);
    let made = tensor(&bound, &[file(4, 8)]).unwrap();
    assert_eq!(made.shape(), [1, 1, 8, 8]);
    let line = [1.0, 1.0, 9.0, 9.0, 9.0, 9.0, 1.0, 1.0];
    assert_eq!(made.elements(), &Elements::Fp32(line.repeat(8)), "the image keeps its size, in the middle");
    let contain = listed(r#"{"color":"gray","resize":"contain"}"#, open(), &shapes).unwrap();
    assert_eq!(tensor(&contain, &[file(20, 10)]).unwrap().shape(), [1, 1, 4, 8]);
    assert_eq!(tensor(&contain, &[file(20, 20)]).unwrap().shape(), [1, 1, 8, 8]);
}

#[test]
fn images_that_become_unlike_sizes_are_refused_in_one_request_and_a_tensor_is_not_made_beyond_the_limit() {
    let file = |width, height| png(::image::GrayImage::new(width, height));
    let free = listed(r#"{"color":"gray","resize":"limit","longest":900}"#, open(), &[]).unwrap();
    assert_eq!(tensor(&free, &[file(4, 2), file(4, 2)]).unwrap().shape(), [2, 1, 2, 4]);
    let error = tensor(&free, &[file(4, 2), file(2, 4)]).unwrap_err();
    assert!(error.message.contains("image 1: it becomes 2×4, and the first image 4×2"), "{error}");
    assert!(tensor(&free, &[]).is_err());
    let large = listed(r#"{"color":"gray","resize":"shorter","size":60000}"#, open(), &[]).unwrap();
    let error = tensor(&large, &[file(1, 1)]).unwrap_err();
    assert_eq!(error.code, Code::TooLarge);
    assert!(error.message.contains("1 images make 1 × 14400000000 bytes"), "{error}");
}

#[test]
fn an_image_that_does_not_go_with_its_input_is_an_error_that_says_what_fits() {
    let some = |height, width| [Dim::Fixed(1), Dim::Fixed(1), height, width];
    let fixed = |side| some(Dim::Fixed(side), Dim::Fixed(side));
    for (image, shape, shapes, part) in [
        (r#"{"color":"gray"}"#, open(), vec![], "`\"resize\": \"limit\"`, with which they follow the image"),
        (
            r#"{"color":"gray"}"#,
            some(Dim::Fixed(4), Dim::Open(None)),
            vec![],
            "both height and width, or neither",
        ),
        (
            r#"{"color":"gray","resize":"shorter","size":8,"crop":6}"#,
            fixed(8),
            vec![],
            "needs height and width 6, as image.crop says",
        ),
        (
            r#"{"color":"gray","resize":"shorter","size":8,"crop":8}"#,
            open(),
            vec![fixed(8), fixed(6)],
            "needs height and width 8",
        ),
        (
            r#"{"color":"gray","resize":"limit","longest":8}"#,
            open(),
            vec![fixed(8), open()],
            "a fixed height and width in each entry of `shapes`",
        ),
        (
            r#"{"color":"gray","resize":"limit","longest":8,"placement":"top_left"}"#,
            open(),
            vec![],
            "no image.placement",
        ),
    ] {
        let error = listed(image, shape, &shapes).unwrap_err();
        assert!(error.contains(part), "{image}: {error}");
    }
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
