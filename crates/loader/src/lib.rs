//! Plans and executes eager tensor loads: catalog and placement to tensors and a report.
