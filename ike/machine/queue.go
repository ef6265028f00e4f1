package machine

import (
	"encoding/binary"
	"math"

	"github.com/ikegod/ikegod/ike/event"
	"github.com/ikegod/ikegod/pkg/iana"
	"github.com/ikegod/ikegod/pkg/wire"
)

// task is an exchange of ours that waits for the window, or is in it.
type task struct {
	kind   taskKind
	child  ChildID
	notify iana.Notify
	data   []byte
}

type taskKind uint8

const (
	taskNone        taskKind = iota // IKE_SA_INIT and IKE_AUTH
	taskLiveness                    // an empty INFORMATIONAL (RFC 7296 2.4)
	taskDeleteChild                 // RFC 7296 1.4.1
	taskDeleteIKE
	taskCreateChild // RFC 7296 1.3.1
	taskNotify      // tell an error that ends the IKE SA (RFC 7296 2.21.2)
)

// enqueue puts a task behind those that wait.
func (m *Machine) enqueue(t task) { m.tasks = append(m.tasks, t) }

// nextTask sends the next request when the window is open.
func (m *Machine) nextTask() {
	for len(m.tasks) > 0 && m.out.request == nil && !m.pathLost && (m.state == established || m.state == deleting) {
		t := m.tasks[0]
		m.tasks = m.tasks[1:]
		if len(m.tasks) == 0 {
			m.tasks = nil
		}
		if m.out.next == math.MaxUint32 {
			m.finish(event.Close{Reason: event.ReasonProtocol, Detail: "Message IDs are used up (RFC 7296 2.2)"})
			return
		}
		if items, ok := m.taskPayloads(t); ok {
			x := iana.INFORMATIONAL
			if t.kind == taskCreateChild {
				x = iana.CREATE_CHILD_SA
			}
			m.request(x, t, m.seal(m.header(x, m.out.next, false), items))
		}
	}
}

// taskPayloads makes the payloads of a task's request; ok is false when there is nothing left to do.
func (m *Machine) taskPayloads(t task) (items []wire.Item, ok bool) {
	switch t.kind {
	case taskNone, taskLiveness:
		return nil, true
	case taskDeleteChild:
		c := m.child(t.child)
		if c == nil {
			return nil, false
		}
		return []wire.Item{{Payload: deleteESP(c.spiIn)}}, true
	case taskCreateChild:
		c := m.child(t.child)
		if c == nil {
			return nil, false
		}
		return m.createPayloads(c)
	case taskDeleteIKE:
		return []wire.Item{{Payload: wire.Delete{Protocol: iana.ProtoIKE}}}, true
	case taskNotify:
		return []wire.Item{{Payload: wire.Notify{Notify: t.notify, Data: t.data}}}, true
	}
	return nil, false
}

// deleteESP names SAs as their receiver knows them: by its inbound SPIs.
func deleteESP(spis ...uint32) wire.Delete {
	d := wire.Delete{Protocol: iana.ProtoESP, SPISize: 4}
	for _, s := range spis {
		d.SPIs = append(d.SPIs, binary.BigEndian.AppendUint32(nil, s))
	}
	return d
}
