package message

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"testing"
)

func hold(size int) []byte { return make([]byte, size) }

// The messages that only the kernel sends have no iproute2 command: they are built here octet by octet, from the offsets of linux/xfrm.h.
func TestParseEvents(t *testing.T) {
	t.Run("acquire", func(t *testing.T) {
		b := hold(280)
		copy(b, east.AsSlice())      // id.daddr
		copy(b[24:], west.AsSlice()) // saddr
		(&Selector{Src: netip.PrefixFrom(west, 32), Dst: netip.PrefixFrom(east, 32), Protocol: 17, SrcPorts: Ports{1000, 0xffff}, DstPorts: Ports{53, 0xffff}}).put(b[40:])
		b[96+160] = 1 // policy.dir
		native.PutUint32(b[96+156:], 777)
		native.PutUint32(b[276:], 99)
		tmpl := hold(64)
		tmpl[20] = 50
		native.PutUint16(tmpl[24:], 2)
		native.PutUint32(tmpl[44:], 1048577)
		b = appendAttr(b, attrTemplates, tmpl)
		got, err := ParseAcquire(b)
		if err != nil || got.Src != west || got.Dst != east || got.Seq != 99 || got.Policy.Direction != Out || got.Policy.Index != 777 {
			t.Fatalf("%+v, %v", got, err)
		}
		if got.Template == nil || got.Template.Reqid != 1048577 || got.Packet.DstPorts.Port != 53 || got.Packet.Src.Addr() != west {
			t.Fatalf("%+v", got)
		}
	})
	t.Run("expire", func(t *testing.T) {
		b := append(golden(t)["newsa-gcm-tunnel"].body[:224:224], 1, 0, 0, 0, 0, 0, 0, 0)
		b = Mark{5, 0xff}.appendTo(b)
		got, err := ParseExpire(b)
		if err != nil || !got.Hard || got.SA.SPI != 0x12345678 || got.SA.Reqid != 1048577 || got.SA.Mark.Value != 5 {
			t.Fatalf("%+v, %v", got, err)
		}
	})
	t.Run("polexpire", func(t *testing.T) {
		got, err := ParsePolExpire(append(golden(t)["newpolicy-block"].body[:168:168], 0, 0, 0, 0, 0, 0, 0, 0))
		if err != nil || got.Hard || got.Policy.Priority != 1757393 {
			t.Fatalf("%+v, %v", got, err)
		}
	})
	t.Run("delpolicy", func(t *testing.T) {
		b := hold(64)
		b[60] = 1 // dir
		b = appendAttr(b, attrPolicy, golden(t)["newpolicy-block"].body[:168])
		b = Mark{5, 0xff}.appendTo(appendUint32Attr(b, attrIfID, 7))
		want, err := ParsePolicy(golden(t)["newpolicy-block"].body[:168])
		if err != nil {
			t.Fatal(err)
		}
		want.Mark, want.IfID = Mark{5, 0xff}, 7
		if got, err := ParseDelPolicy(b); err != nil || *got != *want {
			t.Fatalf("%+v, %v; want %+v", got, err, want)
		}
		if _, err := ParseDelPolicy(b[:63]); err == nil {
			t.Error("too short")
		}
	})
	t.Run("delsa", func(t *testing.T) {
		b := (&DelSA{SAID{SPI: 0x12345678, Dst: east}}).Append(nil)
		if got, err := ParseDelSA(b); err != nil || got.SPI != 0x12345678 || got.Dst != east {
			t.Fatalf("%+v, %v", got, err)
		}
		if _, err := ParseDelSA(b[:23]); err == nil {
			t.Error("too short")
		}
	})
	t.Run("mapping", func(t *testing.T) {
		b := hold(64)
		copy(b, west.AsSlice())
		binary.BigEndian.PutUint32(b[16:], 0x1234)
		native.PutUint16(b[20:], 2)
		b[22] = 50
		copy(b[28:], east.AsSlice())
		copy(b[44:], []byte{192, 1, 2, 254})
		binary.BigEndian.PutUint16(b[60:], 4500)
		binary.BigEndian.PutUint16(b[62:], 4501)
		got, err := ParseMapping(b)
		if err != nil || got.ID.Dst != west || got.ID.SPI != 0x1234 || got.Old.String() != "192.1.2.23:4500" || got.New.String() != "192.1.2.254:4501" {
			t.Fatalf("%+v, %v", got, err)
		}
	})
}

// MIGRATE has no iproute2 command either; its offsets are checked one by one.
func TestMigrate(t *testing.T) {
	b := (&Migrate{
		Selector: Selector{Src: westNet, Dst: eastNet}, Direction: Out, OldSrc: west, OldDst: east, NewSrc: west6, NewDst: east6, Reqid: 5, Encap: Encap{ESPinUDP, 1, 2},
	}).Append(nil)
	body := b[64+4:]
	switch {
	case b[60] != 1 || binary.LittleEndian.Uint16(b[64:]) != 80 || binary.LittleEndian.Uint16(b[66:]) != 17:
		t.Errorf("head %x", b[56:68])
	case !bytes.Equal(body[:4], east.AsSlice()) || !bytes.Equal(body[16:20], west.AsSlice()):
		t.Errorf("old addresses %x", body[:32])
	case !bytes.Equal(body[32:48], east6.AsSlice()) || !bytes.Equal(body[48:64], west6.AsSlice()):
		t.Errorf("new addresses %x", body[32:64])
	case !bytes.Equal(body[64:76], []byte{50, 1, 0, 0, 5, 0, 0, 0, 2, 0, 10, 0}):
		t.Errorf("rest %x", body[64:76])
	case !bytes.Equal(body[76:80], []byte{28, 0, 4, 0}):
		t.Errorf("encapsulation %x", body[76:80])
	}
}

// Whatever comes, the parsers answer; what they read they can write.
func FuzzParse(f *testing.F) {
	for name, sa := range sas() {
		f.Add(append((&NewSA{sa}).Append(nil), name...))
	}
	for _, p := range policies() {
		f.Add((&NewPolicy{p}).Append(nil))
	}
	f.Add(hold(280))
	f.Fuzz(func(t *testing.T, b []byte) {
		if sa, err := ParseSA(b); err == nil {
			again, err := ParseSA((&NewSA{*sa}).Append(nil))
			if err != nil || again.SPI != sa.SPI || again.Reqid != sa.Reqid || again.Encap.SrcPort != sa.Encap.SrcPort && sa.Encap.Type != NoEncap {
				t.Errorf("%v, then %v: %v", sa, again, err)
			}
		}
		_, _ = ParsePolicy(b)
		_, _ = ParseAcquire(b)
		_, _ = ParseExpire(b)
		_, _ = ParsePolExpire(b)
		_, _ = ParseMapping(b)
	})
}
