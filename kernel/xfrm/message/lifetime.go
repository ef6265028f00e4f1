package message

// Limits of an SA (struct xfrm_lifetime_cfg), without those of time, which IKE itself keeps. Zero is no limit.
type Limits struct {
	SoftBytes, HardBytes, SoftPackets, HardPackets uint64
}

const sizeLimits = 64

func (l Limits) put(b []byte) {
	for i, v := range []uint64{l.SoftBytes, l.HardBytes, l.SoftPackets, l.HardPackets} {
		if v == 0 {
			v = Infinite
		}
		native.PutUint64(b[8*i:], v)
	}
}

func parseLimits(b []byte) Limits {
	limit := func(i int) uint64 {
		if v := native.Uint64(b[8*i:]); v != Infinite {
			return v
		}
		return 0
	}
	return Limits{limit(0), limit(1), limit(2), limit(3)}
}

// Current is what an SA has carried so far (struct xfrm_lifetime_cur). Times are Unix seconds.
type Current struct{ Bytes, Packets, Added, Used uint64 }

const sizeCurrent = 32

func (c Current) put(b []byte) {
	for i, v := range []uint64{c.Bytes, c.Packets, c.Added, c.Used} {
		native.PutUint64(b[8*i:], v)
	}
}

func parseCurrent(b []byte) Current {
	return Current{native.Uint64(b), native.Uint64(b[8:]), native.Uint64(b[16:]), native.Uint64(b[24:])}
}
