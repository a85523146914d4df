//! Trajectories: published tables, and what holds for every length.

use ddpm_schedule::{NoiseLevel, NoiseSchedule, Spacing, Trajectory};
use proptest::prelude::*;

fn walk(timesteps: u32) -> NoiseSchedule {
    NoiseSchedule::random_walk(timesteps, 1.0).unwrap()
}

fn times(trajectory: &Trajectory) -> Vec<u32> {
    trajectory.timesteps().iter().map(|t| t.get()).collect()
}

#[test]
fn spacings_have_the_published_tables() {
    use Spacing::{Leading, Linspace, Quadratic, Trailing};
    let cases: [(Spacing, u32, u32, &[u32]); 13] = [
        (Leading, 1000, 5, &[801, 601, 401, 201, 1]),
        // 6·142 + 1, not ⌊6000/7⌋ + 1.
        (Leading, 1000, 7, &[853, 711, 569, 427, 285, 143, 1]),
        (Trailing, 1000, 4, &[1000, 750, 500, 250]),
        (Trailing, 1000, 7, &[1000, 857, 714, 571, 429, 286, 143]),
        (Trailing, 1000, 1, &[1000]),
        // 7.5, 5 and 2.5: ties go to the even neighbour, as NumPy's do.
        (Trailing, 10, 4, &[10, 8, 5, 2]),
        (Linspace, 1000, 5, &[1000, 750, 501, 251, 1]),
        (Linspace, 1000, 2, &[1000, 1]),
        (Linspace, 1000, 1, &[1000]),
        (Quadratic, 1000, 5, &[1000, 563, 251, 63, 1]),
        // Unforced, the last three would be 2, 1, 1.
        (Quadratic, 10, 8, &[10, 8, 6, 5, 4, 3, 2, 1]),
        (Quadratic, 1000, 1, &[1000]),
        (Leading, 1, 1, &[1]),
    ];
    for (spacing, timesteps, n, expected) in cases {
        let trajectory = spacing.trajectory(&walk(timesteps), n).unwrap();
        assert_eq!(
            times(&trajectory),
            expected,
            "{spacing:?} {n} of {timesteps}"
        );
    }
}

#[test]
fn each_spacing_has_its_constructor() {
    let schedule = walk(100);
    let makers = [
        Trajectory::leading,
        Trajectory::trailing,
        Trajectory::linspace,
        Trajectory::quadratic,
    ];
    for (make, spacing) in makers.into_iter().zip(Spacing::ALL) {
        assert_eq!(make(&schedule, 7), spacing.trajectory(&schedule, 7));
    }
}

#[test]
fn pairs_chain_and_end_at_clean_data() {
    let schedule = walk(100);
    let trajectory = Trajectory::from_timesteps(&schedule, [90, 31, 4]).unwrap();
    let level = |t| schedule.level(schedule.timestep(t).unwrap());
    let pairs: Vec<_> = trajectory.pairs(&schedule).collect();
    assert_eq!(trajectory.pairs(&schedule).len(), 3);
    assert_eq!(
        pairs.iter().map(|p| p.0.get()).collect::<Vec<_>>(),
        [90, 31, 4]
    );
    assert_eq!((pairs[0].1, pairs[0].2), (level(90), level(31)));
    assert_eq!((pairs[1].1, pairs[1].2), (level(31), level(4)));
    assert_eq!((pairs[2].1, pairs[2].2), (level(4), NoiseLevel::CLEAN));
}

proptest! {
    #[test]
    fn spacings_strictly_decrease_within_the_schedule(
        (timesteps, n) in (1_u32..1500).prop_flat_map(|timesteps| (Just(timesteps), 1..=timesteps)),
    ) {
        let schedule = walk(timesteps);
        for spacing in Spacing::ALL {
            let trajectory = spacing.trajectory(&schedule, n).unwrap();
            let times = times(&trajectory);
            assert_eq!(trajectory.len(), n as usize);
            assert!(!trajectory.is_empty());
            assert!(times.is_sorted_by(|t, s| t > s), "{spacing:?}: {times:?}");
            assert!(times.iter().all(|t| (1..=timesteps).contains(t)));
            if spacing != Spacing::Leading {
                assert_eq!(times[0], timesteps, "{spacing:?}");
            }
            if spacing != Spacing::Trailing && (n > 1 || spacing == Spacing::Leading) {
                assert_eq!(times.last(), Some(&1), "{spacing:?}");
            }
        }
    }

    #[test]
    fn all_timesteps_are_the_full_trajectory(timesteps in 1_u32..300) {
        let schedule = walk(timesteps);
        let full = Trajectory::full(&schedule);
        assert!(times(&full).into_iter().eq((1..=timesteps).rev()));
        for spacing in Spacing::ALL {
            assert_eq!(spacing.trajectory(&schedule, timesteps).unwrap(), full);
        }
    }
}
