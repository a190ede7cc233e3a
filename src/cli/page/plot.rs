//! Where the parts of a map lie: rectangles as near to squares as can be, each as large as its bytes
//! (<https://vanwijk.win.tue.nl/stm.pdf>).

/// A rectangle.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Area {
    pub(crate) x: f64,
    pub(crate) y: f64,
    pub(crate) width: f64,
    pub(crate) height: f64,
}

impl Area {
    fn short(&self) -> f64 {
        self.width.min(self.height)
    }

    /// What is left within a border.
    pub(crate) fn within(&self, border: f64, top: f64) -> Self {
        Self {
            x: self.x + border,
            y: self.y + top,
            width: (self.width - 2.0 * border).max(0.0),
            height: (self.height - border - top).max(0.0),
        }
    }
}

/// An area for each of these sizes, which must be the largest first.
pub(crate) fn areas(sizes: &[u64], all: Area) -> Vec<Area> {
    let total: f64 = sizes.iter().map(|size| *size as f64).sum();
    let scale = match total > 0.0 {
        true => all.width * all.height / total,
        false => 0.0,
    };
    let sizes: Vec<f64> = sizes.iter().map(|size| *size as f64 * scale).collect();
    let mut found = Vec::with_capacity(sizes.len());
    let (mut rest, mut left) = (&sizes[..], all);
    while !rest.is_empty() {
        let short = left.short();
        let mut count = 1;
        while count < rest.len() && worst(&rest[..=count], short) <= worst(&rest[..count], short) {
            count += 1;
        }
        let (row, later) = rest.split_at(count);
        left = lay(row, left, &mut found);
        rest = later;
    }
    found
}

/// How far the worst of a row is from a square.
fn worst(row: &[f64], short: f64) -> f64 {
    let sum: f64 = row.iter().sum();
    let largest = row.first().copied().unwrap_or_default();
    let smallest = row.last().copied().unwrap_or_default();
    let (side, sum) = (short * short, sum * sum);
    match sum > 0.0 && side > 0.0 && smallest > 0.0 {
        true => (side * largest / sum).max(sum / (side * smallest)),
        false => f64::INFINITY,
    }
}

/// Lays a row along the shorter side; gives what is left.
fn lay(row: &[f64], left: Area, found: &mut Vec<Area>) -> Area {
    let sum: f64 = row.iter().sum();
    let upright = left.width >= left.height;
    let long = left.short();
    let thick = match long > 0.0 {
        true => (sum / long).min(left.width.max(left.height)),
        false => 0.0,
    };
    let mut at = 0.0;
    for size in row {
        let length = match sum > 0.0 {
            true => long * size / sum,
            false => 0.0,
        };
        found.push(match upright {
            true => Area {
                x: left.x,
                y: left.y + at,
                width: thick,
                height: length,
            },
            false => Area {
                x: left.x + at,
                y: left.y,
                width: length,
                height: thick,
            },
        });
        at += length;
    }
    match upright {
        true => Area {
            x: left.x + thick,
            width: (left.width - thick).max(0.0),
            ..left
        },
        false => Area {
            y: left.y + thick,
            height: (left.height - thick).max(0.0),
            ..left
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: Area = Area {
        x: 0.0,
        y: 0.0,
        width: 600.0,
        height: 400.0,
    };

    #[test]
    fn each_has_its_share_lies_within_and_over_no_other() {
        let sizes = [6, 6, 4, 3, 2, 2, 1];
        let found = areas(&sizes, ALL);
        for (size, area) in sizes.iter().zip(&found) {
            let share = area.width * area.height / (600.0 * 400.0);
            assert!(
                (share - *size as f64 / 24.0).abs() < 1e-9,
                "{size} {area:?}"
            );
            assert!(area.x >= 0.0 && area.x + area.width <= 600.0 + 1e-6);
            assert!(area.y >= 0.0 && area.y + area.height <= 400.0 + 1e-6);
            assert!(area.width / area.height < 4.0 && area.height / area.width < 4.0);
        }
        for (index, one) in found.iter().enumerate() {
            for other in &found[index + 1..] {
                let apart = one.x + one.width <= other.x + 1e-6
                    || other.x + other.width <= one.x + 1e-6
                    || one.y + one.height <= other.y + 1e-6
                    || other.y + other.height <= one.y + 1e-6;
                assert!(apart, "{one:?} {other:?}");
            }
        }
    }

    #[test]
    fn sizes_of_nothing_and_areas_of_nothing_have_no_end_that_is_no_number() {
        let none = Area { width: 0.0, ..ALL };
        for (sizes, area) in [
            (&[0, 0][..], ALL),
            (&[5, 0], ALL),
            (&[5, 1], none),
            (&[u64::MAX, u64::MAX, 1], ALL),
            (&[], ALL),
        ] {
            let found = areas(sizes, area);
            assert_eq!(found.len(), sizes.len());
            let fine = |area: &Area| area.width.is_finite() && area.height.is_finite();
            assert!(found.iter().all(fine), "{found:?}");
        }
    }
}
