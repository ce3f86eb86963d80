from lazyfs_csi.records import Records, TargetRecord, VolumeRecord

VOLUME = VolumeRecord("name", "share", "s3://b/m", "0:50")
TARGET = TargetRecord("/pods/a/mount", "csi-1", "name", "asked", "")


def test_what_is_kept_is_there_for_the_next_process_until_it_is_forgotten(tmp_path):
    records = Records(tmp_path)
    records.keep(VOLUME)
    records.keep(TARGET)

    again = Records(tmp_path)
    assert ([VOLUME], [TARGET], records.salt) == ([*again.volumes()], [*again.targets()], again.salt)
    again.forget(VOLUME)
    again.forget(TARGET)
    assert ([], []) == ([*records.volumes()], [*records.targets()])


def test_what_another_version_has_written_is_understood(tmp_path):
    records = Records(tmp_path)
    (tmp_path / "volumes" / "name.json").write_text('{"name": "name", "share": "s", "novel": 1}')

    assert [VolumeRecord("name", "s", "", "")] == [*records.volumes()]


def test_a_file_that_was_cut_short_is_none(tmp_path):
    records = Records(tmp_path)
    (tmp_path / "targets" / "x.json").write_text('{"target": "/p')
    (tmp_path / "salt").write_bytes(b"short")

    assert [] == [*records.targets()]
    assert 32 == len(Records(tmp_path).salt)
