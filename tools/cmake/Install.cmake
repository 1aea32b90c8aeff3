# cmake --install: the program, the library (static and shared) with its headers and forerun.pc, the licence, and the demo model.
install(TARGETS forerun forerun_static forerun_shared)
install(FILES include/forerun.h include/forerun_checkpoint.h include/forerun_study.h DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})
install(FILES LICENSE DESTINATION ${CMAKE_INSTALL_DOCDIR})
install(DIRECTORY models/demo DESTINATION ${CMAKE_INSTALL_DATADIR}/forerun/models OPTIONAL)

file(RELATIVE_PATH bin_to_lib ${CMAKE_INSTALL_FULL_BINDIR} ${CMAKE_INSTALL_FULL_LIBDIR})

# A oneDNN from outside the system's folders is installed beside the library: what is installed must outlive the cache.
get_target_property(dnnl_file DNNL::dnnl LOCATION)
get_filename_component(dnnl_dir "${dnnl_file}" DIRECTORY)
if(dnnl_dir IN_LIST CMAKE_C_IMPLICIT_LINK_DIRECTORIES)
    set(FORERUN_PC_DNNL "-ldnnl")
else()
    install(FILES "${dnnl_file}" DESTINATION ${CMAKE_INSTALL_LIBDIR}/forerun RENAME $<TARGET_SONAME_FILE_NAME:DNNL::dnnl>)
    file(GLOB dnnl_license "${dnnl_dir}/../share/doc/dnnl/LICENSE")
    install(FILES ${dnnl_license} DESTINATION ${CMAKE_INSTALL_DOCDIR} RENAME LICENSE.oneDNN)
    set_target_properties(forerun PROPERTIES INSTALL_RPATH "$ORIGIN/${bin_to_lib}/forerun")
    set_target_properties(forerun_shared PROPERTIES INSTALL_RPATH "$ORIGIN/forerun")
    set(FORERUN_PC_DNNL
        "-L\${libdir}/forerun -Wl,-rpath,\${libdir}/forerun -l:$<TARGET_SONAME_FILE_NAME:DNNL::dnnl>")
endif()

# forerun.pc is relocatable: its prefix is found from where it lies.
file(RELATIVE_PATH FORERUN_PC_PREFIX "${CMAKE_INSTALL_FULL_LIBDIR}/pkgconfig" "${CMAKE_INSTALL_PREFIX}")
string(REGEX REPLACE "/$" "" FORERUN_PC_PREFIX "${FORERUN_PC_PREFIX}")
configure_file(${CMAKE_CURRENT_LIST_DIR}/forerun.pc.in ${PROJECT_BINARY_DIR}/forerun.pc.gen @ONLY)
file(GENERATE OUTPUT ${PROJECT_BINARY_DIR}/forerun.pc INPUT ${PROJECT_BINARY_DIR}/forerun.pc.gen)
install(FILES ${PROJECT_BINARY_DIR}/forerun.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)
