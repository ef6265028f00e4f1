package machine

import (
	"fmt"
	"io"
)

// What holds keys prints nothing of them, whatever the verb and however deep in another structure it stands.

const hidden = "***"

// String hides the keys.
func (Keys) String() string { return hidden }

// Format hides the keys whatever the verb.
func (Keys) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, hidden) }

// MarshalText hides the keys from JSON and its like.
func (Keys) MarshalText() ([]byte, error) { return []byte(hidden), nil }

// String names the job and hides what came of it.
func (d JobDone) String() string { return fmt.Sprintf("JobDone %d, error %v", d.ID, d.Err) }

// Format hides what came of the job whatever the verb.
func (d JobDone) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, d.String()) }

// String says which IKE SA this is and where it stands.
func (m *Machine) String() string {
	return fmt.Sprintf("IKE SA %016x_i %016x_r %q %v", uint64(m.spii), uint64(m.spir), m.connName(), m.state)
}

// Format prints no more than String whatever the verb: a Machine holds keys.
func (m *Machine) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, m.String()) }
