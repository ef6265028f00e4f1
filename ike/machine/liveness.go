package machine

import "slices"

// onSilence is called when nothing authentic came for the liveness time. A request that is outstanding asks already, and an answer to it sets the next
// time; otherwise an empty INFORMATIONAL asks (RFC 7296 2.4; on streams too, RFC 9329 6.7). What comes of no answer is the exchange's timeout.
func (m *Machine) onSilence() {
	if m.state != established || m.pathLost || m.out.request != nil {
		return
	}
	if !slices.ContainsFunc(m.tasks, func(t task) bool { return t.kind == taskLiveness }) {
		m.enqueue(task{kind: taskLiveness})
	}
}
