package xfrm

import (
	"time"

	"github.com/ikegod/ikegod/kernel"
	"github.com/ikegod/ikegod/kernel/xfrm/message"
)

// counted is where the counters of a pair are: in the kernel's SAs, and in those that a move has replaced.
type counted struct {
	in, out message.SAID
	sends   bool
	before  kernel.Usage
}

// count makes a pair's counters known to Usage, or knows it anew after a change.
func (w *worker) count(p *pair) {
	w.d.mu.Lock()
	defer w.d.mu.Unlock()
	w.d.usage[p.spi()] = counted{p.in, p.out, p.sends, w.d.usage[p.spi()].before}
}

func (w *worker) forgetCount(spi kernel.SPI) {
	w.d.mu.Lock()
	defer w.d.mu.Unlock()
	delete(w.d.usage, spi)
}

// Usage implements kernel.Datapath. It asks the kernel, on a socket of its own, a few microseconds for each SA.
func (d *Datapath) Usage(spis ...kernel.SPI) []kernel.Usage {
	out := make([]kernel.Usage, len(spis))
	for i, spi := range spis {
		d.mu.Lock()
		c, ok := d.usage[spi]
		d.mu.Unlock()
		if ok {
			out[i] = d.read(spi, c)
		}
	}
	return out
}

func (d *Datapath) read(spi kernel.SPI, c counted) kernel.Usage {
	u := c.before
	u.SPI, u.Datapath = spi, d.features.Name
	if sa := d.readSA(c.in); sa != nil {
		u.InPackets += sa.Current.Packets
		u.InBytes += sa.Current.Bytes
		u.LastIn = latest(u.LastIn, sa)
	}
	if !c.sends {
		return u
	}
	if sa := d.readSA(c.out); sa != nil {
		u.OutPackets += sa.Current.Packets
		u.OutBytes += sa.Current.Bytes
		u.LastOut = latest(u.LastOut, sa)
	}
	return u
}

// readSA is nil for an SA that is gone.
func (d *Datapath) readSA(id message.SAID) *message.SA {
	b, err := d.counters.get(message.GETSA, &message.GetSA{ID: id})
	if err != nil {
		return nil
	}
	sa, err := message.ParseSA(b)
	if err != nil {
		return nil
	}
	return sa
}

// latest is when an SA was last used. Kernels tell it in two ways, neither of which all have.
func latest(before time.Time, sa *message.SA) time.Time {
	if sa.Current.Packets == 0 {
		return before
	}
	if t := time.Unix(int64(max(sa.LastUsed, sa.Current.Used)), 0); t.After(before) {
		return t
	}
	return before
}

// Reqid is the reqid of a policy's SAs and templates; zero if there is no such policy.
func (d *Datapath) Reqid(id kernel.PolicyID) uint32 {
	if n, ok := d.reqids.Load(id); ok {
		return n.(uint32)
	}
	return 0
}
