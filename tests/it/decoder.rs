//! What requests come to: refusals with their counts, attacks, and the way back out.

mod oracle;
