package suite

import (
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/ikegod/ikegod/pkg/iana"
	"github.com/ikegod/ikegod/pkg/wire"
)

// The reference: all combinations in order of preference, one after the other, each checked against one offered proposal by the words of RFC 7296
// 3.3, without any of the code under test.

type combination struct {
	encr  Encr
	integ iana.Integ
	prf   iana.PRF
	ke    iana.KE
	sn    iana.SN
}

func combinations(p Proposal, ike, withKE bool) []combination {
	orZero := func(n int) int { return max(n, 1) }
	at := func(n, i int, get func() uint16) uint16 {
		if n == 0 {
			return 0
		}
		return get()
	}
	kes := p.KE
	if !withKE {
		kes = nil
	}
	var all []combination
	for _, e := range p.Encr {
		for i := range orZero(len(p.Integ)) {
			for j := range orZero(len(p.PRF)) {
				for k := range orZero(len(kes)) {
					for l := range orZero(len(p.SN)) {
						c := combination{
							encr:  e,
							integ: iana.Integ(at(len(p.Integ), i, func() uint16 { return uint16(p.Integ[i]) })),
							prf:   iana.PRF(at(len(p.PRF), j, func() uint16 { return uint16(p.PRF[j]) })),
							ke:    iana.KE(at(len(kes), k, func() uint16 { return uint16(kes[k]) })),
							sn:    iana.SN(at(len(p.SN), l, func() uint16 { return uint16(p.SN[l]) })),
						}
						if ike {
							c.sn = 0
						}
						all = append(all, c)
					}
				}
			}
		}
	}
	return all
}

// fits reports whether an offered proposal holds the combination.
func fits(o wire.Proposal, c combination, ike, withKE bool) bool {
	has := func(t iana.TransformType, id uint16, bits uint16) bool {
		for _, x := range o.Transforms {
			want := 0
			if bits != 0 {
				want = 1
			}
			if x.Type == t && x.ID == id && len(x.Attributes) == want && x.KeyLength() == bits {
				return true
			}
		}
		return false
	}
	count := func(t iana.TransformType) (n int) {
		for _, x := range o.Transforms {
			if x.Type == t {
				n++
			}
		}
		return n
	}
	for _, x := range o.Transforms {
		if x.Type < 1 || x.Type > 12 || ike && x.Type == 5 || !ike && x.Type == 2 {
			return false
		}
		if x.Type >= 6 && !has(x.Type, 0, 0) { // RFC 9370: each additional key exchange has to be optional
			return false
		}
	}
	if !has(1, uint16(c.encr.ID), c.encr.KeyBits) {
		return false
	}
	if c.encr.ID == iana.ENCR_AES_CBC {
		if c.integ == 0 || !has(3, uint16(c.integ), 0) {
			return false
		}
	} else if n := count(3); n > 0 && !(n == 1 && has(3, 0, 0)) || c.integ != 0 {
		return false
	}
	if ike {
		return has(2, uint16(c.prf), 0) && c.ke != 0 && has(4, uint16(c.ke), 0)
	}
	if withKE && !has(4, uint16(c.ke), 0) && !(c.ke == 0 && count(4) == 0) {
		return false
	}
	return has(5, uint16(c.sn), 0) || c.sn == 0 && count(5) == 0
}

func slowChoose(p Proposals, o wire.SA, ike, withKE bool, prefer iana.KE) (combination, uint8, bool) {
	for _, op := range o.Proposals {
		for _, onlyPreferred := range []bool{true, false} {
			for _, q := range p {
				for _, c := range combinations(q, ike, withKE) {
					if onlyPreferred && (prefer == 0 || c.ke != prefer) {
						continue
					}
					if fits(op, c, ike, withKE) {
						return c, op.Number, true
					}
				}
			}
		}
	}
	return combination{}, 0, false
}

// TestChooseAgainstReference compares with the reference on random policies and offers.
func TestChooseAgainstReference(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	subset := func(names ...string) string {
		var s []string
		for _, n := range names {
			if r.IntN(3) == 0 {
				s = append(s, n)
			}
		}
		r.Shuffle(len(s), func(i, j int) { s[i], s[j] = s[j], s[i] })
		if len(s) == 0 {
			s = names[:1]
		}
		return strings.Join(s, "+")
	}
	chosen, refused, additional := 0, 0, 0
	for i := range 20000 {
		ike, withKE := r.IntN(2) == 0, r.IntN(4) != 0
		if ike {
			withKE = true
		}
		var alternatives []string
		for range 1 + r.IntN(3) {
			a := subset("aes_gcm256", "aes_gcm128", "chacha20_poly1305", "aes256", "aes128", "aes_ccm256", "aes_ccm128")
			if ike {
				a += "-" + subset("sha2_512", "sha2_256", "sha1") + "-" + subset("dh31", "dh19", "dh14", "dh32", "dh2", "dh18")
			} else {
				a += ";sn=" + subset("esn", "no")
				if r.IntN(2) == 0 {
					a += ";ke=" + subset("dh31", "dh19", "none", "dh5", "dh17")
				}
			}
			alternatives = append(alternatives, a)
		}
		var p Proposals
		protocol := iana.ProtoESP
		if ike {
			p, protocol = mustIKE(t, strings.Join(alternatives, ",")), iana.ProtoIKE
		} else {
			p = mustESP(t, strings.Join(alternatives, ","))
		}
		o := randomOffer(r, protocol)
		prefer := []iana.KE{0, iana.KE_CURVE25519, iana.KE_ECP256, iana.KE_MODP2048}[r.IntN(4)]

		c, err := p.Choose(o, protocol, withKE, prefer)
		want, number, ok := slowChoose(p, o, ike, withKE, prefer)
		if ok != (err == nil) {
			t.Fatalf("run %d: policy %v, offer %s: error %v, reference %v", i, p, describe(o, protocol), err, ok)
		}
		if !ok {
			refused++
			continue
		}
		chosen++
		if got := (combination{c.Suite.Encr, c.Suite.Integ, c.Suite.PRF, c.Suite.KE, c.Suite.SN}); got != want || c.Number != number {
			t.Fatalf("run %d: policy %v, offer %s, preferred %s: %v of %d, reference %v of %d",
				i, p, describe(o, protocol), keName(uint16(prefer)), c.Suite, c.Number, want, number)
		}
		checkReply(t, o, c)
		if slices.ContainsFunc(c.Reply.Proposals[0].Transforms, func(x wire.Transform) bool { return isAddKE(x.Type) }) {
			additional++
		}
	}
	t.Logf("%d chosen, %d of them with additional key exchanges of NONE, %d refused", chosen, additional, refused)
	if chosen < 3000 || refused < 3000 || additional < 100 {
		t.Error("the runs are lopsided")
	}
}

// randomOffer makes offers of algorithms good, bad, odd and unknown.
func randomOffer(r *rand.Rand, protocol iana.Protocol) wire.SA {
	pool := []wire.Transform{
		encr(iana.ENCR_AES_GCM_16, key(256)...), encr(iana.ENCR_AES_GCM_16, key(128)...), encr(iana.ENCR_AES_GCM_16), encr(iana.ENCR_CHACHA20_POLY1305),
		encr(iana.ENCR_AES_CBC, key(256)...), encr(iana.ENCR_AES_CBC, key(128)...), encr(iana.ENCR_3DES),
		encr(iana.ENCR_AES_CCM_16, key(256)...), encr(iana.ENCR_AES_CCM_16, key(128)...), encr(iana.ENCR_AES_CCM_8, key(128)...),
		tr(3, 0), tr(3, 12), tr(3, 14), tr(3, 2), tr(4, 0), tr(4, 31), tr(4, 19), tr(4, 14), tr(4, 2), tr(4, 5), tr(4, 17), tr(4, 18), tr(4, 32), tr(4, 22),
	}
	if protocol == iana.ProtoIKE {
		pool = append(pool, tr(2, 5), tr(2, 7), tr(2, 2), tr(2, 5), tr(2, 7))
	} else {
		pool = append(pool, tr(5, 0), tr(5, 1))
	}
	var proposals [][]wire.Transform
	for range 1 + r.IntN(3) {
		var ts []wire.Transform
		for _, x := range pool {
			// Often no integrity, so that AEADs have a chance.
			if r.IntN(3) == 0 && (x.Type != iana.TransformInteg || r.IntN(2) == 0) {
				ts = append(ts, x)
			}
		}
		switch r.IntN(25) {
		case 0:
			ts = append(ts, tr([]iana.TransformType{0, 13, 99}[r.IntN(3)], 1))
		case 2, 3, 4, 5: // additional key exchanges, mostly optional
			for range 1 + r.IntN(3) {
				add := iana.TransformAddKE1 + iana.TransformType(r.IntN(7))
				if r.IntN(4) != 0 {
					ts = append(ts, tr(add, 0))
				}
				if r.IntN(2) == 0 {
					ts = append(ts, tr(add, []uint16{36, 31, 0}[r.IntN(3)]))
				}
			}
		case 1:
			if len(ts) > 0 {
				ts[r.IntN(len(ts))].Attributes = key(7)
			}
		}
		r.Shuffle(len(ts), func(i, j int) { ts[i], ts[j] = ts[j], ts[i] })
		proposals = append(proposals, ts)
	}
	return offer(protocol, proposals...)
}
