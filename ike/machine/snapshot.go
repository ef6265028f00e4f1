package machine

import (
	"time"

	"github.com/ikegod/ikegod/pkg/ident"
	"github.com/ikegod/ikegod/pkg/path"
	"github.com/ikegod/ikegod/pkg/suite"
	"github.com/ikegod/ikegod/pkg/ts"
	"github.com/ikegod/ikegod/pkg/wire"
)

// Snapshot is the state of an IKE SA as an operator sees it.
type Snapshot struct {
	SPIi, SPIr          wire.SPI
	Initiator           bool
	State               string // "IKE_SA_INIT sent", "IKE_AUTH sent", "half-open", "established", "deleting" ...
	Conn                string
	Instance            int // of a template, from 1; a machine does not know it, its engine does
	Local, Remote       ident.ID
	Path                path.Path
	PathLost            bool // the stream has ended and its originator has not come back yet
	Suite               suite.Suite
	NATLocal, NATRemote bool // NATRemote is also true when the peer only forces encapsulation
	Forced              bool // we force encapsulation
	Established         time.Time
	Retransmits         int // of the request that is outstanding
	Children            []ChildSnapshot
}

// ChildSnapshot is one Child SA.
type ChildSnapshot struct {
	ID            ChildID
	Conn          string
	Instance      int // as that of the IKE SA
	Name          string
	Index         int
	SPIIn, SPIOut uint32
	Suite         suite.Suite
	Local, Remote ts.Set
	Path          path.Path // where its ESP travels; zero: not yet known
	Transport     bool      // transport mode
	Installed     time.Time // zero: not yet
}

// Snapshot describes the IKE SA for status. It copies; no keys.
func (m *Machine) Snapshot() Snapshot {
	s := Snapshot{
		SPIi: m.spii, SPIr: m.spir, Initiator: m.initiator, State: m.state.String(), Conn: m.connName(), Local: m.localID, Remote: m.remoteID,
		Path: m.path, PathLost: m.pathLost, Suite: m.suite, NATLocal: m.natLocal, NATRemote: m.natRemote, Forced: m.forced, Retransmits: m.out.retransmits,
	}
	if m.establishedAt != 0 {
		s.Established = m.born.Add(time.Duration(m.establishedAt))
	}
	for _, c := range m.children {
		cs := ChildSnapshot{
			ID: c.id, Conn: c.conn.Name, Name: c.name(), Index: c.index, SPIIn: c.spiIn, SPIOut: c.spiOut, Suite: c.suite, Local: c.local, Remote: c.remote,
			Path: c.path, Transport: c.mode.transport,
		}
		if c.installedAt != 0 {
			cs.Installed = m.born.Add(time.Duration(c.installedAt))
		}
		s.Children = append(s.Children, cs)
	}
	return s
}
