//! Convolutions against the definition.

use super::*;
use crate::functions::Function;
use crate::random::Random;

/// A convolution by the definition. Sums are in FP64.
fn plain(
    axes: &[Axis; 3],
    groups: usize,
    weights: &[f32],
    bias: &[f32],
    input: &[f32],
    made: usize,
) -> Vec<f32> {
    let read = input.len() / axes.iter().map(|axis| axis.input).product::<usize>();
    let taps: usize = axes.iter().map(|axis| axis.kernel).product();
    let split = |at: usize, lengths: [usize; 3]| {
        [at / lengths[2] / lengths[1], at / lengths[2] % lengths[1], at % lengths[2]]
    };
    let mut output = Vec::new();
    for channel in 0..made {
        for place in 0..axes.iter().map(|axis| axis.output).product() {
            let place = split(place, axes.map(|axis| axis.output));
            let mut sum = f64::from(bias[channel]);
            for local in 0..read / groups {
                let from = channel / (made / groups) * (read / groups) + local;
                for tap in 0..taps {
                    let offset = split(tap, axes.map(|axis| axis.kernel));
                    let source = |axis: usize| gather::source(&axes[axis], offset[axis], place[axis]);
                    let (Some(z), Some(y), Some(x)) = (source(0), source(1), source(2)) else { continue };
                    let at = ((from * axes[0].input + z) * axes[1].input + y) * axes[2].input + x;
                    let weight = weights[(channel * (read / groups) + local) * taps + tap];
                    sum += f64::from(input[at]) * f64::from(weight);
                }
            }
            output.push(sum as f32);
        }
    }
    output
}

fn axis(random: &mut Random, longest: usize) -> Axis {
    let (kernel, stride, dilation) = (random.size(1, 5), random.size(1, 3), random.size(1, 3));
    let reach = (kernel - 1) * dilation + 1;
    let (before, behind) = (random.size(0, reach + 1), random.size(0, 4));
    let input = random.size(1, longest) + reach.saturating_sub(before + behind + 1);
    let output = (input + before + behind - reach) / stride + 1;
    Axis { input, output, kernel, stride, dilation, before }
}

fn compare(random: &mut Random, axes: &[Axis; 3], groups: usize, read: usize, made: usize) {
    let sizes = |length: fn(&Axis) -> usize| -> usize { axes.iter().map(length).product() };
    let weights = random.numbers(groups * made * read * sizes(|axis| axis.kernel));
    let bias = random.numbers(groups * made);
    let input = random.numbers(groups * read * sizes(|axis| axis.input));
    let add = random.numbers(groups * made * sizes(|axis| axis.output));
    let expected = plain(axes, groups, &weights, &bias, &input, groups * made);
    let bound = 1e-6 * (read * sizes(|axis| axis.kernel)) as f32 + 1e-5;
    for level in Level::all() {
        let filters = Filters::at(level, groups, groups * made, read, &weights, Some(&bias));
        // What was in the output before does not matter.
        let mut output = vec![f32::NAN; add.len()];
        filters.run(axes, &input, &mut output, After::default());
        let differs =
            output.iter().zip(&expected).position(|(found, expected)| !is_near(*found, *expected, bound));
        assert_eq!(differs, None, "{level:?} {axes:?} {groups} groups of {read} → {made}");
        let limit = Function::Between { least: -0.5, most: 1.0 };
        let after = After { first: &[limit], add: Some(&add), then: &[Function::Relu] };
        filters.run(axes, &input, &mut output, after);
        let expected =
            expected.iter().zip(&add).map(|(number, other)| (number.clamp(-0.5, 1.0) + other).max(0.0));
        let differs =
            output.iter().zip(expected).position(|(found, expected)| !is_near(*found, expected, bound));
        assert_eq!(differs, None, "{level:?} with ReLU: {axes:?} {groups} groups of {read} → {made}");
    }
}

/// Whether a number is near the expected one. NaN is not.
fn is_near(found: f32, expected: f32, bound: f32) -> bool {
    (found - expected).abs() < bound
}

#[test]
fn convolutions_are_those_of_the_definition() {
    let mut random = Random::new(3);
    for turn in 0..1500 {
        let longest = if turn % 10 == 0 { 70 } else { 20 };
        let mut axes = [Axis::ONE, axis(&mut random, 9), axis(&mut random, longest)];
        if turn % 7 == 0 {
            axes[0] = axis(&mut random, 4);
        }
        let (groups, read, made) = match turn % 4 {
            0 => (random.size(2, 9), 1, 1),
            1 => (random.size(1, 4), random.size(1, 5), random.size(1, 9)),
            _ => (1, random.size(1, 9), random.size(1, 40)),
        };
        compare(&mut random, &axes, groups, read, made);
    }
}

/// Compares a convolution by transformed filters with the definition.
fn compare_transformed(random: &mut Random, axes: &[Axis; 3], groups: usize, read: usize, made: usize) {
    let sizes = |length: fn(&Axis) -> usize| -> usize { axes.iter().map(length).product() };
    let weights = random.numbers(groups * made * read * sizes(|axis| axis.kernel));
    let bias = random.numbers(groups * made);
    let input = random.numbers(2 * groups * read * sizes(|axis| axis.input));
    let add = random.numbers(2 * groups * made * sizes(|axis| axis.output));
    let halves = input.chunks_exact(input.len() / 2);
    let expected: Vec<f32> =
        halves.flat_map(|input| plain(axes, groups, &weights, &bias, input, groups * made)).collect();
    let bound = 1e-6 * (read * sizes(|axis| axis.kernel)) as f32 + 1e-5;
    let factors: Vec<f32> = random.numbers(groups * made);
    for level in Level::all() {
        let filters = Filters::at(level, groups, groups * made, read, &weights, Some(&bias)).transformed();
        assert!(filters.fits(axes));
        let after = After { add: Some(&add), then: &[Function::Relu], ..After::default() };
        let scaled = filters.scaled(&factors, &bias);
        let mut output = vec![f32::NAN; add.len()];
        scaled.run(axes, &input, &mut output, after);
        let plane = sizes(|axis| axis.output);
        let expected = expected.iter().zip(&add).enumerate().map(|(at, (number, other))| {
            let channel = at / plane % factors.len();
            (number * factors[channel] + bias[channel] + other).max(0.0)
        });
        let differs =
            output.iter().zip(expected).position(|(found, expected)| !is_near(*found, expected, bound));
        assert_eq!(differs, None, "{level:?} {axes:?} {groups} groups of {read} → {made}");
    }
}

#[test]
fn filters_of_3_by_3_that_are_transformed_give_the_same() {
    let mut random = Random::new(13);
    let side = |random: &mut Random, least: usize| {
        let (output, before) = (random.size(least, 40), random.size(0, 2));
        let behind = random.size(0, 2);
        Axis { input: output + 2 - before - behind, output, kernel: 3, before, ..Axis::ONE }
    };
    for turn in 0..80 {
        let least = if turn % 4 == 0 { 3 } else { 12 };
        let axes = [Axis::ONE, side(&mut random, least), side(&mut random, least)];
        let (groups, read, made) = (random.size(1, 2), random.size(1, 70), random.size(16, 40));
        compare_transformed(&mut random, &axes, groups, read, made);
    }
    // The narrowest, and one whose numbers do not fit in the cache.
    for (height, width, read) in [(24, 6, 16), (6, 150, 16), (14, 14, 320)] {
        let side = |output| Axis { input: output, output, kernel: 3, before: 1, ..Axis::ONE };
        compare_transformed(&mut random, &[Axis::ONE, side(height), side(width)], 1, read, 17);
    }
}

#[test]
fn filters_are_transformed_only_where_that_is_faster() {
    let side = |output, kernel| Axis { input: output + kernel - 1, output, kernel, ..Axis::ONE };
    let is_transformed = |axes: &[Axis], read: usize| {
        let taps: usize = axes.iter().map(|axis| axis.kernel).product();
        Filters::new(1, 16, read, &vec![1.0; 16 * read * taps], None).faster(axes).is_some()
    };
    assert!(is_transformed(&[side(20, 3), side(20, 3)], 16));
    assert!(!is_transformed(&[side(20, 3), side(20, 3)], 3), "few channels");
    assert!(!is_transformed(&[side(7, 3), side(7, 3)], 64), "a small result");
    assert!(!is_transformed(&[side(20, 3), side(20, 5)], 64), "another length");
    assert!(!is_transformed(&[side(20, 3), Axis { stride: 2, ..side(20, 3) }], 64), "a stride");
    assert!(!is_transformed(&[side(20, 3), Axis { dilation: 2, ..side(20, 3) }], 64), "a dilation");
    assert!(!is_transformed(&[side(4, 3), side(20, 3), side(20, 3)], 64), "three axes");
}

#[test]
fn many_channels_are_summed_in_several_steps() {
    let mut random = Random::new(5);
    for (read, kernel) in [(300, 3), (1100, 1), (2, 40)] {
        let side = Axis { input: 41, output: 41 + 2 - kernel + 1, kernel, stride: 1, dilation: 1, before: 1 };
        let line = Axis { input: 3, output: 3, ..Axis::ONE };
        compare(&mut random, &[Axis::ONE, line, side], 1, read, 17);
    }
}

#[test]
fn filters_without_strides_or_padding_see_one_long_row() {
    let mut random = Random::new(7);
    for (height, width) in [(1, 1), (7, 7), (5, 33), (16, 16)] {
        let plain = |length| Axis { input: length, output: length, ..Axis::ONE };
        compare(&mut random, &[Axis::ONE, plain(height), plain(width)], 1, 19, 23);
    }
}

#[test]
fn several_threads_compute_the_same() {
    let mut random = Random::new(15);
    crew::with_help(2, || {
        let side =
            |stride| Axis { input: 41, output: 40 / stride + 1, kernel: 3, stride, before: 1, ..Axis::ONE };
        for (groups, read, made) in [(1, 40, 100), (1, 60, 13), (70, 1, 1), (3, 20, 30)] {
            compare(&mut random, &[Axis::ONE, side(1), side(1)], groups, read, made);
            compare(&mut random, &[Axis::ONE, side(2), side(2)], groups, read, made);
            if read > 1 {
                compare_transformed(&mut random, &[Axis::ONE, side(1), side(1)], groups, read, made);
            }
        }
    });
}

#[test]
fn the_items_of_a_batch_do_not_mix() {
    let mut random = Random::new(9);
    let axes = [Axis { input: 9, output: 7, kernel: 3, ..Axis::ONE }];
    let (weights, input, add) =
        (random.numbers(5 * 3 * 3), random.numbers(4 * 3 * 9), random.numbers(4 * 5 * 7));
    let filters = Filters::new(1, 5, 3, &weights, None);
    let after = |add| After { add: Some(add), ..After::default() };
    let mut all = vec![0.0; 4 * 5 * 7];
    filters.run(&axes, &input, &mut all, after(&add));
    for item in 0..4 {
        let mut one = vec![0.0; 5 * 7];
        filters.run(&axes, &input[item * 27..][..27], &mut one, after(&add[item * 35..][..35]));
        assert_eq!(one, all[item * 35..][..35]);
    }
}

#[test]
fn scaled_filters_scale_the_result() {
    let mut random = Random::new(11);
    for (groups, read, made) in [(1, 2, 17), (3, 2, 5), (4, 1, 1)] {
        let axes = [Axis { input: 9, output: 7, kernel: 3, ..Axis::ONE }];
        let (made, input) = (groups * made, random.numbers(groups * read * 9));
        let (weights, bias) = (random.numbers(made * read * 3), random.numbers(made));
        let (factors, offsets) = (random.numbers(made), random.numbers(made));
        let filters = Filters::new(groups, made, read, &weights, Some(&bias));
        let (mut plain, mut scaled) = (vec![0.0; made * 7], vec![0.0; made * 7]);
        filters.run(&axes, &input, &mut plain, After::default());
        filters.scaled(&factors, &offsets).run(&axes, &input, &mut scaled, After::default());
        for (at, (plain, scaled)) in plain.iter().zip(&scaled).enumerate() {
            assert!((plain * factors[at / 7] + offsets[at / 7] - scaled).abs() < 1e-5, "{groups} {at}");
        }
    }
}

#[test]
fn an_input_of_length_0_gives_the_bias() {
    let filters = Filters::new(1, 2, 1, &[1.0; 6], Some(&[3.0, -4.0]));
    let axes = [Axis { input: 0, output: 2, kernel: 3, before: 2, ..Axis::ONE }];
    let mut output = vec![0.0; 4];
    filters.run(&axes, &[], &mut output, After { then: &[Function::Relu], ..After::default() });
    assert_eq!(output, [3.0, 3.0, 0.0, 0.0]);
}

#[test]
fn memory_that_is_out_of_proportion_to_the_input_is_seen_before_it_is_taken() {
    let usual = Axis { input: 9, output: 4, kernel: 3, stride: 2, ..Axis::ONE };
    let far = Axis { input: 9, output: 2, kernel: 2, stride: 1 << 40, before: 4, ..Axis::ONE };
    for groups in [1, 4] {
        let fits = |axis: Axis| {
            Filters::new(groups, 4, 4 / groups, &vec![1.0; 16 / groups * axis.kernel], None).fits(&[axis])
        };
        assert!(fits(usual) && !fits(far), "{groups} groups");
    }
}

/// Prints what a few shapes reach: `cargo test --release -p onnxd-kernels speed -- --ignored --nocapture`.
#[test]
#[ignore = "prints figures"]
fn speed() {
    let mut random = Random::new(1);
    let square = |length: usize, kernel: usize, stride: usize| Axis {
        input: length,
        output: (length + kernel / 2 * 2 - kernel) / stride + 1,
        kernel,
        stride,
        dilation: 1,
        before: kernel / 2,
    };
    let shapes = [
        (1, 3, 64, square(224, 7, 2)),
        (1, 64, 64, square(56, 3, 1)),
        (1, 64, 128, square(56, 3, 2)),
        (1, 128, 128, square(28, 3, 1)),
        (1, 256, 256, square(14, 3, 1)),
        (1, 512, 512, square(7, 3, 1)),
        (1, 16, 64, square(112, 1, 1)),
        (1, 64, 24, square(56, 1, 1)),
        (1, 160, 640, square(7, 1, 1)),
        (1, 640, 160, square(7, 1, 1)),
        (1, 64, 128, square(56, 1, 2)),
        (1, 48, 16, square(128, 3, 1)),
        (1, 16, 16, square(80, 3, 1)),
        (1, 32, 32, square(40, 3, 1)),
        (1, 128, 64, square(32, 3, 1)),
        (1, 64, 64, square(160, 3, 1)),
        (64, 1, 1, square(112, 5, 2)),
        (96, 1, 1, square(56, 5, 1)),
        (320, 1, 1, square(14, 5, 1)),
        (640, 1, 1, square(7, 5, 1)),
        (64, 1, 1, square(112, 3, 1)),
    ];
    for (groups, read, made, axis) in shapes {
        let axes = [axis, axis];
        let weights = random.numbers(groups * made * read * axis.kernel * axis.kernel);
        let input = random.numbers(groups * read * axis.input * axis.input);
        let mut output = vec![0.0; groups * made * axis.output * axis.output];
        let products = output.len() * read * axis.kernel * axis.kernel;
        print!("{groups} × {read:4} → {made:4}, {}² by {}² stride {}:", axis.input, axis.kernel, axis.stride);
        for level in Level::all() {
            // As in a model: the weights are not in the cache.
            let filters = Filters::at(level, groups, groups * made, read, &weights, None);
            let filters = filters.faster(&axes).unwrap_or(filters);
            let all = vec![filters; (10_000_000 / weights.len()).clamp(1, 10)];
            let mut best = f64::INFINITY;
            for _ in 0..3.max(20_000_000 / products) {
                let start = std::time::Instant::now();
                for filters in &all {
                    filters.run(&axes, &input, &mut output, After::default());
                }
                best = best.min(start.elapsed().as_secs_f64() / all.len() as f64);
            }
            print!("  {level:?} {:.0} µs {:.0} GFLOP/s", best * 1e6, 2e-9 * products as f64 / best);
        }
        println!();
    }
}
