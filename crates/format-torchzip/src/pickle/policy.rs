/// How classes and functions outside the closed list are treated.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Policy {
    /// Refuse the file, naming the first one, like `weights_only=True` of `torch.load`; and refuse
    /// files with bytes that belong to no part of them.
    Strict,
    /// Keep their objects as inert data whose tensors are still found. Nothing is ever called.
    #[default]
    Inert,
}
