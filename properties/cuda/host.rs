//! The CUDA kernels, compiled for the CPU under shim.h, as an implementation to be judged.

use std::io::{BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Mutex;

use half::{bf16, f16};
use normative::kernels::Curve;
use normative::kernels::cuda::plan::{self, Plan, Rows};
use normative::kernels::slices::Storage;
use normative::verify::conformance::{Algorithm, Roundoff};

use super::cases::{Case, Kind};
use super::judge::{Back, Subject};

/// A number as the device stores it.
pub trait Bytes: Copy {
    const SIZE: usize;
    fn put(self) -> Vec<u8>;
    fn get(from: &[u8]) -> Self;
}

macro_rules! bytes {
    ($($t:ty),*) => {$(
        impl Bytes for $t {
            const SIZE: usize = size_of::<$t>();
            fn put(self) -> Vec<u8> {
                self.to_le_bytes().to_vec()
            }
            fn get(from: &[u8]) -> Self {
                Self::from_le_bytes(from.try_into().unwrap())
            }
        }
    )*};
}

bytes!(f32, f64, bf16, f16);

/// A storage type of the device, and its name in CUDA C++.
pub trait Stored: Kind + Bytes + Storage<Real: Bytes> {
    const TYPE: &'static str;
}

impl Stored for f32 {
    const TYPE: &'static str = "float";
}
impl Stored for f64 {
    const TYPE: &'static str = "double";
}
impl Stored for bf16 {
    const TYPE: &'static str = "__nv_bfloat16";
}
impl Stored for f16 {
    const TYPE: &'static str = "__half";
}

/// What a kernel is called with.
pub enum Argument {
    Buffer(Vec<u8>),
    Null,
    Integer(usize),
    Double(f64),
}

pub use Argument::{Double, Integer, Null};

/// A buffer of the numbers.
pub fn buffer<B: Bytes>(numbers: &[B]) -> Argument {
    Argument::Buffer(numbers.iter().flat_map(|n| n.put()).collect())
}

/// A buffer to be written, full of ones until then: NaN in every type.
pub fn blank<B: Bytes>(numbers: usize) -> Argument {
    Argument::Buffer(vec![0xff; numbers * B::SIZE])
}

pub fn numbers<B: Bytes>(bytes: &[u8]) -> Vec<B> {
    bytes.chunks_exact(B::SIZE).map(B::get).collect()
}

fn sources() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src/kernels/cuda")
}

/// The kernels for one storage type, running.
pub struct Host {
    pipes: Mutex<(ChildStdin, BufReader<ChildStdout>)>,
    child: Child,
    /// Whether tensors count as aligned to 16 bytes.
    pub aligned: bool,
}

impl Drop for Host {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Host {
    /// A source, as it is or with an edit: `(file, text, other text)`.
    pub fn new<S: Stored>(source: &str, edit: Option<(&str, &str, &str)>) -> Host {
        let place = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        for file in std::fs::read_dir(sources()).unwrap() {
            let file = file.unwrap().path();
            let name = file.file_name().unwrap().to_str().unwrap().to_owned();
            let mut text = std::fs::read_to_string(&file).unwrap();
            if let Some((_, from, to)) = edit.filter(|(edited, _, _)| *edited == name) {
                assert!(text.contains(from), "{name} has no {from:?} to change");
                text = text.replace(from, to);
            }
            std::fs::write(place.path().join(name), text).unwrap();
        }
        let program = place.path().join("host");
        let compiled = Command::new(std::env::var("CXX").unwrap_or_else(|_| "c++".into()))
            .args(["-std=c++17", "-O1", "-w", "-ffp-contract=off", "-U_FORTIFY_SOURCE", "-rdynamic"])
            .arg(format!("-DSTORAGE={}", S::TYPE))
            .arg(format!("-DBYTES={}", S::SIZE))
            .arg(format!("-DKERNELS=\"{source}.cu\""))
            .arg("-I")
            .arg(place.path())
            .arg("-o")
            .arg(&program)
            .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("properties/cuda/host.cpp"))
            .arg("-ldl")
            .status()
            .expect("a C++ compiler: set CXX");
        assert!(compiled.success());
        let mut child =
            Command::new(&program).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("the program starts");
        let pipes = Mutex::new((child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap())));
        Host { pipes, child, aligned: true }
    }

    /// The buffers after the launch; the bits must not depend on the order in which threads take their turns.
    pub fn launch(&self, plan: &Plan, arguments: &[Argument]) -> Vec<Vec<u8>> {
        let ascending = self.run(plan, arguments, 0);
        let bytes: usize = ascending.iter().map(|b| b.len()).sum();
        if bytes < 1 << 20 {
            assert!(ascending == self.run(plan, arguments, 1), "{}: a race among threads", plan.kernel);
        }
        ascending
    }

    fn run(&self, plan: &Plan, arguments: &[Argument], descending: u8) -> Vec<Vec<u8>> {
        let mut pipes = self.pipes.lock().unwrap();
        let mut message = format!("{} {} {} {descending}", plan.kernel, plan.blocks, plan.threads);
        for argument in arguments {
            message += &match argument {
                Argument::Buffer(bytes) => format!(" b{}", bytes.len()),
                Argument::Null => " n".into(),
                Argument::Integer(i) => format!(" i{i}"),
                Argument::Double(x) => format!(" d{x:e}"),
            };
        }
        let mut message = (message + "\n").into_bytes();
        let buffers = || arguments.iter().filter_map(|a| if let Argument::Buffer(b) = a { Some(b) } else { None });
        buffers().for_each(|b| message.extend(b));
        pipes.0.write_all(&message).unwrap();
        pipes.0.flush().unwrap();
        let mut read = |buffer: &Vec<u8>| {
            let mut bytes = vec![0; buffer.len()];
            pipes.1.read_exact(&mut bytes).unwrap_or_else(|e| panic!("{}: {e}", plan.kernel));
            bytes
        };
        buffers().map(&mut read).collect()
    }

    pub fn rows<S: Stored>(&self, groups: usize, rows: usize, width: usize) -> Rows {
        Rows { groups, rows, width, bytes: S::SIZE, aligned: self.aligned }
    }
}

fn flags<S: Stored>(case: &Case<S>) -> Argument {
    let bits = [case.centred, case.one_plus, case.rounded_first];
    Integer(bits.iter().enumerate().map(|(i, bit)| usize::from(*bit) << i).sum())
}

fn optional<S: Stored>(numbers: Option<&[S]>) -> Argument {
    numbers.map_or(Null, |numbers| buffer(numbers))
}

impl Host {
    /// y of `groups` groups of equally many rows, gain and bias one a group.
    pub fn normalize<S: Stored>(&self, case: &Case<S>, groups: usize) -> Vec<S> {
        let total = case.rows();
        let rows = self.rows::<S>(groups, total / groups, case.width);
        let arguments = [
            buffer(&case.x),
            Null,
            buffer(&case.gain),
            optional(case.bias.as_deref()),
            Null,
            blank::<S>(case.x.len()),
            Integer(total),
            Integer(total / groups),
            Integer(case.width),
            flags(case),
            Double(case.eps),
        ];
        numbers(self.launch(&rows.forward(), &arguments).last().unwrap())
    }

    /// The sum with a residual and its norm.
    pub fn add_normalize<S: Stored>(&self, case: &Case<S>, residual: &[S]) -> (Vec<S>, Vec<S>) {
        let rows = self.rows::<S>(1, case.rows(), case.width);
        let arguments = [
            buffer(&case.x),
            buffer(residual),
            buffer(&case.gain),
            optional(case.bias.as_deref()),
            blank::<S>(case.x.len()),
            blank::<S>(case.x.len()),
            Integer(case.rows()),
            Integer(case.rows()),
            Integer(case.width),
            flags(case),
            Double(case.eps),
        ];
        let buffers = self.launch(&rows.forward(), &arguments);
        let [.., sum, y] = &buffers[..] else { panic!("two outputs") };
        (numbers(sum), numbers(y))
    }

    pub fn pull_back<S: Stored>(&self, case: &Case<S>, groups: usize) -> Back<S> {
        let (group_rows, parts) = (case.rows() / groups, 1 + usize::from(case.centred));
        let rows = self.rows::<S>(groups, group_rows, case.width);
        let plan = rows.backward();
        let arguments = [
            buffer(&case.x),
            buffer(&case.gain),
            buffer(&case.dy),
            blank::<S>(case.x.len()),
            blank::<S::Real>(groups * rows.chunks() * parts * case.width),
            Integer(group_rows),
            Integer(rows.chunk_rows()),
            Integer(case.width),
            flags(case),
            Double(case.eps),
        ];
        let mut buffers = self.launch(&plan, &arguments);
        let (mut strips, dx) = (buffers.pop().unwrap(), buffers.pop().unwrap());
        let (columns, mut count) = (parts * case.width, rows.chunks());
        for (plan, left) in plan::merges(groups, count, columns) {
            let arguments = [
                Argument::Buffer(strips),
                blank::<S::Real>(groups * left * columns),
                Integer(groups),
                Integer(count),
                Integer(columns),
            ];
            strips = self.launch(&plan, &arguments).pop().unwrap();
            count = left;
        }
        let arguments = [
            Argument::Buffer(strips),
            blank::<S>(2 * groups * case.width),
            Integer(groups),
            Integer(count),
            Integer(case.width),
            Integer(parts),
        ];
        let plan = plan::elementwise("finish_strips", 2 * groups * case.width);
        let parameters: Vec<S> = numbers(&self.launch(&plan, &arguments).pop().unwrap());
        let (dgain, dbias) = parameters.split_at(groups * case.width);
        Back { dx: Some(numbers(&dx)), dgain: Some(dgain.to_vec()), dbias: Some(dbias.to_vec()) }
    }
}

impl Host {
    fn plain<S: Stored>(&self, rows: usize, width: usize) -> [Argument; 3] {
        [blank::<S>(rows * width), Integer(rows), Integer(width)]
    }

    pub fn softmax<S: Stored>(&self, x: &[S], rows: usize, width: usize) -> Vec<S> {
        let plan = self.rows::<S>(1, rows, width).softmax("softmax");
        let arguments: Vec<_> = [buffer(x)].into_iter().chain(self.plain::<S>(rows, width)).collect();
        numbers(self.launch(&plan, &arguments).last().unwrap())
    }

    pub fn softmax_backward<S: Stored>(&self, y: &[S], dy: &[S], rows: usize, width: usize) -> Vec<S> {
        let plan = self.rows::<S>(1, rows, width).softmax("softmax_backward");
        let arguments: Vec<_> = [buffer(y), buffer(dy)].into_iter().chain(self.plain::<S>(rows, width)).collect();
        numbers(self.launch(&plan, &arguments).last().unwrap())
    }

    /// phi(h), or dy phi'(h).
    pub fn curve<S: Stored>(&self, curve: Curve, h: &[S], dy: Option<&[S]>) -> Vec<S> {
        let full = 16 / S::SIZE;
        let vector = self.aligned && h.len().is_multiple_of(full);
        let (kind, vectors) = if vector { ("vector", h.len() / full) } else { ("scalar", h.len()) };
        let pass = if dy.is_some() { "curve_backward" } else { "curve" };
        let mut arguments = vec![buffer(h)];
        arguments.extend(dy.map(|dy| buffer(dy)));
        arguments.extend([blank::<S>(h.len()), Integer(vectors), Integer(curve as usize)]);
        numbers(self.launch(&plan::elementwise(&format!("{pass}_{kind}"), vectors), &arguments).last().unwrap())
    }
}

impl<S: Stored> Subject<S> for Host {
    fn forward(&self, case: &Case<S>) -> Vec<S> {
        self.normalize(case, 1)
    }

    fn backward(&self, case: &Case<S>) -> Back<S> {
        self.pull_back(case, 1)
    }

    fn roundoff(&self, width: usize) -> Roundoff {
        let h = self.rows::<S>(1, 1, width).additions();
        Roundoff { algorithm: Algorithm::CorrectedFromZero, h, ..S::roundoff(width) }
    }
}
