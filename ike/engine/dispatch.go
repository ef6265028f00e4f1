package engine

import (
	"encoding/binary"
	"fmt"
	"hash/maphash"

	"github.com/ikegod/ikegod/ike/event"
	"github.com/ikegod/ikegod/pkg/iana"
	"github.com/ikegod/ikegod/pkg/path"
	"github.com/ikegod/ikegod/pkg/wire"
	"github.com/ikegod/ikegod/transport"
)

// Engine implements transport.Handler.
var _ transport.Handler = (*Engine)(nil)

// offMajor is where the version stands in the header (RFC 7296 3.1). It is read before anything else: what follows it may mean something else in
// another version.
const (
	offMajor    = 17
	offExchange = 18
)

// IKE implements transport.Handler: from the header alone it finds the shard. It allocates nothing for a message that is dropped here.
func (e *Engine) IKE(d transport.Datagram) bool {
	if len(d.Data) < wire.HeaderLen {
		return e.junk(event.DropShort, d, "")
	}
	if major := d.Data[offMajor] >> 4; major != 2 {
		return e.otherVersion(major, d)
	}
	h, err := wire.ParseHeader(d.Data)
	if err != nil {
		return e.junk(event.DropLength, d, "")
	}
	spi := h.InitiatorSPI
	if h.FromInitiator() {
		spi = h.ResponderSPI
		if spi == 0 {
			return e.stranger(d, h)
		}
	}
	s := e.shardOf(spi)
	if s == nil || spi == 0 {
		return e.junk(event.DropUnknownSPI, d, "")
	}
	return s.box.deliver(d, spi) || e.full(d)
}

// full is the answer to the transport when a mailbox has no room: a datagram is dropped, a stream waits and loses nothing (RFC 9329 6.2).
func (e *Engine) full(d transport.Datagram) bool {
	if !d.Path.Kind.Stream() {
		e.dropped(nil, event.DropMailbox, d, "")
	}
	return false
}

// stranger takes a message that names no responder SPI: an IKE_SA_INIT request, or nothing that we know.
func (e *Engine) stranger(d transport.Datagram, h wire.Header) bool {
	if h.Exchange != iana.IKE_SA_INIT || h.Response() || h.MessageID != 0 || h.InitiatorSPI == 0 {
		return e.junk(event.DropNotInitiator, d, "")
	}
	s := e.shards[0]
	if len(e.shards) > 1 {
		s = e.shards[maphash.Comparable(e.seed, initialKey{h.InitiatorSPI, d.Path.Remote.Addr().As16()})%uint64(len(e.shards))]
	}
	return s.box.deliverInitial(d) || e.full(d)
}

// initialKey brings a repeated IKE_SA_INIT request to the shard that has seen the first.
type initialKey struct {
	spi  wire.SPI
	addr [16]byte
}

// junk drops a message that belongs to nothing. On a stream a few in a row close it (RFC 9329 6.1: corrupted).
func (e *Engine) junk(why event.Drop, d transport.Datagram, text string) bool {
	e.dropped(nil, why, d, text)
	if d.Path.Kind.Stream() && e.streams.junk(d.Path) {
		e.breakStream(d.Path, fmt.Errorf("%d messages in a row that belong to no IKE SA of ours (%s)", maxJunk, why))
	}
	return true
}

// Accepted implements transport.Handler.
func (e *Engine) Accepted(p path.Path) { e.streams.accept(p) }

// Lost implements transport.Handler.
func (e *Engine) Lost(p path.Path, err error) {
	if spi, owned := e.streams.lose(p, err); owned {
		e.tellLost(spi, p, err)
	}
}

// looseHeader reads the fields of the header that a stateless reply copies, whatever the version says about the rest.
func looseHeader(b []byte) wire.Header {
	return wire.Header{
		InitiatorSPI: wire.SPI(binary.BigEndian.Uint64(b)), ResponderSPI: wire.SPI(binary.BigEndian.Uint64(b[8:])),
		MajorVersion: b[offMajor] >> 4, Exchange: iana.Exchange(b[offExchange]), Flags: wire.Flags(b[19]), MessageID: binary.BigEndian.Uint32(b[20:]),
	}
}
