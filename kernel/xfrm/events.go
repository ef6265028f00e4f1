package xfrm

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"net/netip"
	"slices"
	"sync/atomic"
	"time"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/ikegod/ikegod/kernel"
	"github.com/ikegod/ikegod/kernel/xfrm/message"
	"github.com/ikegod/ikegod/pkg/path"
)

// newsBuffer is the socket's. A thousand SAs that expire at once fit into it many times; when it is full the kernel drops messages and says so.
const newsBuffer = 8 << 20

// listener hears the kernel's messages on a goroutine of its own.
type listener struct {
	d      *Datapath
	socket *nl.NetlinkSocket
	closed atomic.Bool
	done   chan struct{}
	told   time.Time // that messages were lost
}

func listen(d *Datapath) (*listener, error) {
	s, err := nl.Subscribe(unix.NETLINK_XFRM, message.GroupAcquire, message.GroupExpire, message.GroupSA, message.GroupPolicy, message.GroupMapping)
	if err != nil {
		return nil, refused("listen to the kernel's IPsec", err)
	}
	if err := onlyOthers(s, d.conn); err != nil {
		s.Close()
		return nil, fmt.Errorf("listen to what others do to the kernel's IPsec: %w", err)
	}
	if s.SetReceiveBufferSize(newsBuffer, true) != nil {
		_ = s.SetReceiveBufferSize(newsBuffer, false) // as large as net.core.rmem_max allows
	}
	return &listener{d: d, socket: s, done: make(chan struct{})}, nil
}

// onlyOthers has the kernel leave out what conn itself does to SAs and policies, and what others add or change: ten thousand connections that come up would fill the
// socket.
func onlyOthers(s *nl.NetlinkSocket, conn *conn) error {
	load := func(size uint16, at uint32) unix.SockFilter {
		return unix.SockFilter{Code: unix.BPF_LD | size | unix.BPF_ABS, K: at}
	}
	program := []unix.SockFilter{load(unix.BPF_W, 12)} // nlmsg_pid: who has asked for it
	dropped := []uint32{wordAsLoaded(conn.port)}
	for _, kind := range []message.Type{message.NEWSA, message.UPDSA, message.NEWPOLICY, message.UPDPOLICY} {
		dropped = append(dropped, halfAsLoaded(uint16(kind)))
	}
	for i, value := range dropped {
		if i == 1 {
			program = append(program, load(unix.BPF_H, 4)) // nlmsg_type
		}
		program = append(program, unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, Jf: 1, K: value}, unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K})
	}
	program = append(program, unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: math.MaxUint32})
	return unix.SetsockoptSockFprog(s.GetFd(), unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &unix.SockFprog{Len: uint16(len(program)), Filter: &program[0]})
}

// wordAsLoaded and halfAsLoaded are numbers in this machine's byte order as a filter loads them, in the network's.
func wordAsLoaded(n uint32) uint32 {
	return binary.BigEndian.Uint32(binary.NativeEndian.AppendUint32(nil, n))
}

func halfAsLoaded(n uint16) uint32 {
	return uint32(binary.BigEndian.Uint16(binary.NativeEndian.AppendUint16(nil, n)))
}

func (l *listener) close() {
	l.closed.Store(true)
	l.socket.Close()
	<-l.done
}

// maxReceiveErrors is how many errors in a row are too many: one may be a message that cannot be understood.
const maxReceiveErrors = 10

func (l *listener) run() {
	defer close(l.done)
	for failed := 0; ; {
		messages, from, err := l.socket.Receive()
		switch {
		case l.closed.Load():
			return
		case errors.Is(err, unix.ENOBUFS):
			l.overrun()
			continue
		case errors.Is(err, unix.EINTR), errors.Is(err, unix.EAGAIN):
			continue
		case err != nil:
			if failed++; failed == maxReceiveErrors {
				l.d.cfg.Notice(fmt.Sprintf("the kernel's messages about IPsec cannot be read any more (%v): traps, limits and NAT mappings do nothing; restart ikegod", err))
				return
			}
			l.resync()
			continue
		}
		failed = 0
		if from.Pid != nl.PidKernel {
			continue // any process may send to it
		}
		for _, m := range messages {
			l.hear(message.Type(m.Header.Type), m.Data)
		}
	}
}

// tellLost limits how often it is said that messages were lost.
const tellLost = time.Minute

// overrun finds out what the kernel has said in messages that the socket had no room for.
func (l *listener) overrun() {
	if now := time.Now(); now.Sub(l.told) >= tellLost {
		l.told = now
		l.d.cfg.Notice("the kernel's messages about IPsec came faster than they were read, and some were lost (ENOBUFS): the state of all SAs is read instead; " +
			"should this go on, raise net.core.rmem_max or look what makes so many SAs expire")
	}
	l.resync()
}

func (l *listener) resync() {
	l.d.requests.tell(l.d.worker.resync)
}

// hear hands a message to the worker.
func (l *listener) hear(kind message.Type, b []byte) {
	w := &l.d.worker
	var do func()
	switch kind {
	case message.ACQUIRE:
		if m, err := message.ParseAcquire(b); err == nil {
			do = func() { w.acquire(m) }
		}
	case message.EXPIRE:
		if m, err := message.ParseExpire(b); err == nil {
			do = func() { w.expire(m) }
		}
	case message.POLEXPIRE:
		if m, err := message.ParsePolExpire(b); err == nil {
			do = func() { w.policyExpire(m) }
		}
	case message.MAPPING:
		if m, err := message.ParseMapping(b); err == nil {
			do = func() { w.mapped(m, time.Now()) }
		}
	case message.DELPOLICY:
		if m, err := message.ParseDelPolicy(b); err == nil {
			do = func() { w.policyRemoved(m) }
		}
	case message.FLUSHPOLICY:
		do = w.lookAtPolicies
	case message.DELSA:
		if id, err := message.ParseDelSA(b); err == nil {
			do = func() { w.saRemoved(id) }
		}
	case message.FLUSHSA:
		do = func() { w.gone(w.lookAtSAs()) }
	default:
	}
	if do != nil && !l.d.requests.tell(do) && !repeated(kind) {
		l.lost()
	}
}

// repeated reports whether the kernel says a thing again.
func repeated(kind message.Type) bool { return kind == message.ACQUIRE || kind == message.MAPPING }

// lost queues a resync behind what is there, when that has been worked off.
func (l *listener) lost() {
	for !l.d.requests.tell(l.d.worker.resync) {
		time.Sleep(time.Millisecond) // the kernel's socket holds what comes meanwhile
	}
}

// acquire reports a packet for a trap.
func (w *worker) acquire(m *message.Acquire) {
	if m.Template == nil {
		return
	}
	r := w.byReqid[m.Template.Reqid]
	if r == nil {
		return
	}
	if len(r.acquires) < maxAcquires {
		r.acquires = append(r.acquires, acquired{
			src: message.SAID{Src: m.Src}, dst: message.SAID{Dst: m.Dst}, seq: m.Seq, mark: m.Mark, ifID: m.IfID, mode: m.Template.Mode,
		})
	}
	if head := r.head(); head != nil && !head.answers(m) { // it is for what the policy wanted before there was an SA
		if err := w.forgetAcquires(r); err != nil {
			w.d.cfg.Notice(err.Error())
		}
		return
	}
	if r.policy.Action != kernel.Trap || len(r.pairs) > 0 {
		return // it waits for what is negotiated, or an SA is at its end, and its pair with it
	}
	w.d.events(kernel.Acquire{
		Policy: r.policy.ID, Protocol: m.Packet.Protocol,
		Src: netip.AddrPortFrom(m.Packet.Src.Addr(), m.Packet.SrcPorts.Port), Dst: netip.AddrPortFrom(m.Packet.Dst.Addr(), m.Packet.DstPorts.Port),
	})
}

// answers reports whether an SA as the kernel has asked for is the outbound one of the pair, or would be one in its place.
func (p *pair) answers(m *message.Acquire) bool {
	return m.Template.Mode == p.template(message.Out, 0).Mode && m.Src == p.out.Src && m.Dst == p.out.Dst
}

// maxAcquires is how many SAs without keys of one policy are remembered, to be removed before their half minute is over.
const maxAcquires = 256

// pairOf finds the pair of an SA, whichever half.
func (w *worker) pairOf(dst netip.Addr, spi uint32) *pair {
	if p := w.outbound[outID{dst, spi}]; p != nil {
		return p
	}
	if p := w.pairs[kernel.SPI(spi)]; p != nil && p.in.Dst == dst {
		return p
	}
	return nil
}

func (w *worker) expire(m *message.Expire) {
	if r := w.byReqid[m.SA.Reqid]; r != nil && m.SA.SPI == 0 { // the kernel has waited long enough, and will ask again
		r.acquires = slices.DeleteFunc(r.acquires, func(a acquired) bool { return a.seq == m.SA.Seq })
		return
	}
	p := w.pairOf(m.SA.Dst, m.SA.SPI)
	if p == nil || p.route.reqid != m.SA.Reqid {
		return
	}
	if m.Hard {
		w.hardExpire(p)
		return
	}
	w.softExpire(p)
}

func (w *worker) softExpire(p *pair) {
	if !p.told {
		p.told = true
		w.d.events(kernel.SoftExpire{SPI: p.spi()})
	}
}

func (w *worker) hardExpire(p *pair) {
	if !p.hard {
		p.hard = true
		w.d.events(kernel.HardExpire{SPI: p.spi()})
	}
}

// policyExpire puts a policy back that somebody has given a limit.
func (w *worker) policyExpire(m *message.PolExpire) {
	at := w.spd.places[placeOf(&m.Policy)]
	if !m.Hard || at == nil || at.kernel == nil || at.kernel.Index != m.Policy.Index {
		return
	}
	at.kernel = nil
	if err := w.spd.sync(placeOf(&m.Policy), at); err != nil {
		w.d.cfg.Notice("a policy that the kernel let expire could not be put back: " + err.Error())
	}
}

// mappingEvery limits how often the same new address of a peer is told.
const mappingEvery = time.Second

// mapped reports that authentic packets come from elsewhere.
func (w *worker) mapped(m *message.Mapping, now time.Time) {
	p := w.pairOf(m.ID.Dst, m.ID.SPI)
	if p == nil || m.New == p.mapping && now.Sub(p.mappingAt) < mappingEvery {
		return
	}
	p.mapping, p.mappingAt = m.New, now
	at := p.sa.Endpoints.Path
	w.d.events(kernel.PeerMoved{SPI: p.spi(), Path: path.Path{Local: at.Local, Remote: m.New, Kind: at.Kind, Generation: at.Generation}})
}

// resync finds out what messages that were lost have said: which policies are gone, which SAs are, or have come to a limit, and which packets wait.
func (w *worker) resync() {
	w.lookAtPolicies()
	for _, p := range w.lookAtSAs() {
		w.hardExpire(p) // it may have come to its limit
	}
}

// lookAtSAs returns the pairs of which an SA is not there any more, and does what the kernel has asked for by the state of the others.
func (w *worker) lookAtSAs() (gone []*pair) {
	sas, err := sasInKernel(w.d.conn)
	if err != nil {
		w.d.cfg.Notice("the kernel has told of something that has become of SAs, and their state could not be read: " + err.Error())
		return nil
	}
	there := map[outID]*message.SA{}
	for _, sa := range sas {
		if sa.SPI != 0 {
			there[outID{sa.Dst, sa.SPI}] = sa
		}
	}
	for _, p := range w.pairs {
		halves := []message.SAID{p.in}
		if p.sends {
			halves = append(halves, p.out)
		}
		for _, id := range halves {
			sa := there[outID{id.Dst, id.SPI}]
			switch {
			case sa == nil:
				if !slices.Contains(gone, p) {
					gone = append(gone, p)
				}
			case over(sa.Current.Bytes, sa.Limits.SoftBytes), over(sa.Current.Packets, sa.Limits.SoftPackets):
				w.softExpire(p)
			}
		}
	}
	for _, sa := range sas {
		if r := w.byReqid[sa.Reqid]; r != nil && sa.SPI == 0 && !slices.ContainsFunc(r.acquires, func(a acquired) bool { return a.seq == sa.Seq }) {
			w.acquire(&message.Acquire{
				Src: sa.Src, Dst: sa.Dst, Packet: packetOf(sa), Template: &message.Template{Reqid: sa.Reqid, Mode: sa.Mode}, Seq: sa.Seq, Mark: sa.Mark, IfID: sa.IfID,
			})
		}
	}
	return gone
}

// packetOf is the packet for which the kernel keeps an SA without keys.
func packetOf(sa *message.SA) message.Selector {
	s := sa.Selector
	if !s.Dst.IsValid() {
		s.Src, s.Dst = netip.PrefixFrom(sa.Src, sa.Src.BitLen()), netip.PrefixFrom(sa.Dst, sa.Dst.BitLen())
	}
	return s
}

func over(n, limit uint64) bool { return limit != 0 && n >= limit }
